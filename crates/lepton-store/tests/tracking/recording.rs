//! What is recorded of runs, logged models and traces, and whom it may hang on.

use super::*;

#[tokio::test]
async fn a_run_of_another_project_is_missing_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let other: Name = "other".parse().unwrap();
    let run = RunId::from(id(1));
    let mut transaction = Transaction::new();
    transaction
        .set_tags(run, vec![("t".to_owned(), "x".to_owned())])
        .require_run(run, &other);
    let refused = store.commit(transaction).await.unwrap_err();
    assert!(matches!(
        refused,
        CommitError::Conflict(Conflict::RunMissing { .. })
    ));
    let tags = store.tags(run).await.unwrap();
    assert!(tags.iter().all(|(key, _)| key != "t"));
}

#[tokio::test]
async fn what_went_in_and_came_out_is_recorded_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let data = RunDataset {
        name: "letters".to_owned(),
        digest: "d".to_owned(),
        source_type: "local".to_owned(),
        source: "/x".to_owned(),
        schema: None,
        profile: None,
        tags: vec![("mlflow.data.context".to_owned(), "training".to_owned())],
    };
    let link = ModelLink {
        r#use: ModelUse::Output,
        model: id(77),
        step: 1,
    };
    let mut transaction = Transaction::new();
    transaction.create_logged_model(logged_model(77, &home()), Vec::new(), Vec::new());
    store.commit(transaction).await.unwrap();
    for _ in 0..2 {
        let mut transaction = Transaction::new();
        transaction
            .link_datasets(id(1).into(), id(200).into(), vec![data.clone()])
            .link_models(id(1).into(), vec![link]);
        store.commit(transaction).await.unwrap();
    }
    let found = store.found_runs(vec![id(1), id(99)]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].datasets, [data]);
    assert_eq!(found[0].models, [link]);
    let context = RunField::Dataset(lepton_store::DatasetField::Context);
    assert_eq!(
        with(&store, context, Test::Is("training".to_owned())).await,
        ["run 1"]
    );
}

#[tokio::test]
async fn nothing_hangs_on_a_record_that_is_not_there_or_of_another_project() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let lab: Name = "lab".parse().unwrap();
    let project = Resource::draft(
        id(150),
        home(),
        "lab",
        Timestamp::from_millis(1),
        ProjectSpec::default(),
    );
    let mut transaction = Transaction::new();
    transaction.create(&project).create_logged_model(
        logged_model(78, &lab),
        Vec::new(),
        Vec::new(),
    );
    store.commit(transaction).await.unwrap();
    let pair = || vec![("k".to_owned(), "v".to_owned())];
    let (nobody, mine) = (RunId::from(id(99)), RunId::from(id(1)));
    let missing = [
        refusal(&store, |t| _ = t.set_tags(nobody, pair())).await,
        refusal(&store, |t| _ = t.set_params(nobody, pair())).await,
        refusal(&store, |t| {
            t.append_metrics(nobody, vec![point("m", 1.0)]);
        })
        .await,
        refusal(&store, |t| {
            t.add_to_tag(nobody, "k", &1.into(), 9);
        })
        .await,
    ];
    for conflict in missing {
        assert!(
            matches!(conflict, Conflict::RunMissing { .. }),
            "{conflict}"
        );
    }
    let measured = ModelMetric {
        model: id(78),
        run: mine,
        key: "acc".to_owned(),
        step: 0,
        at: Timestamp::from_millis(1),
        value: 1.0,
        dataset_name: String::new(),
        dataset_digest: String::new(),
    };
    let link = ModelLink {
        r#use: ModelUse::Input,
        model: id(78),
        step: 0,
    };
    let foreign = [
        refusal(&store, |t| {
            t.append_model_metrics(vec![measured]);
        })
        .await,
        refusal(&store, |t| {
            t.link_models(mine, vec![link]);
        })
        .await,
        refusal(&store, |t| {
            t.require_logged_model(id(78), &home());
        })
        .await,
        // A run is no logged model.
        refusal(&store, |t| {
            t.require_logged_model(id(1), &home());
        })
        .await,
    ];
    for conflict in foreign {
        assert!(
            matches!(conflict, Conflict::LoggedModelMissing { .. }),
            "{conflict}"
        );
    }
}

#[tokio::test]
async fn changes_that_come_at_once_are_all_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let mut transaction = Transaction::new();
    let trace = Trace {
        id: "tr-1".to_owned(),
        ..Trace::empty()
    };
    transaction.merge_trace(&home(), id(200), trace);
    store.commit(transaction).await.unwrap();
    let writers = (0..40).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut transaction = Transaction::new();
            let tag = (format!("t{number}"), String::new());
            transaction
                .alter::<RunSpec>(id(1), move |run| {
                    run.metadata.name.push('x');
                    Ok(())
                })
                .add_to_tag(id(1).into(), "list", &number.into(), 10_000)
                .change_trace(
                    &home(),
                    "tr-1",
                    TraceChange {
                        tags: [tag].into(),
                        ..TraceChange::default()
                    },
                );
            store.commit(transaction).await.unwrap();
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let run = store.get_by_id::<RunSpec>(id(1)).await.unwrap().unwrap();
    assert_eq!(run.metadata.name, format!("run 1{}", "x".repeat(40)));
    let tags = store.tags(id(1).into()).await.unwrap();
    let list = &tags.iter().find(|(key, _)| key == "list").unwrap().1;
    let list: Vec<u32> = serde_json::from_str(list).unwrap();
    assert_eq!(list.len(), 40);
    let (_, trace) = store.trace(&home(), "tr-1").await.unwrap().unwrap();
    assert_eq!(trace.tags.len(), 40);
}

#[tokio::test]
async fn a_list_in_a_tag_lets_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    for number in 0..5 {
        let mut transaction = Transaction::new();
        transaction.add_to_tag(id(1).into(), "list", &number.into(), 7);
        store.commit(transaction).await.unwrap();
    }
    let tags = store.tags(id(1).into()).await.unwrap();
    assert!(
        tags.contains(&("list".to_owned(), "[2,3,4]".to_owned())),
        "{tags:?}"
    );
}

#[tokio::test]
async fn files_are_listed_and_dropped_by_folder_and_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let mut transaction = Transaction::new();
    for path in ["a/b", "a/c/d", "a0", "ab"] {
        transaction.keep_file(KeptFile {
            project: home(),
            path: path.to_owned(),
            digest: BlobDigest::from_bytes([1; 32]),
            size_bytes: 1,
        });
    }
    store.commit(transaction).await.unwrap();
    let paths = async |path: &str| {
        let files = store.kept_files(&home(), path).await.unwrap();
        files.into_iter().map(|file| file.path).collect::<Vec<_>>()
    };
    assert_eq!(paths("a").await, ["a/b", "a/c/d"]);
    let children = async |folder: &str| {
        let children = store.kept_children(&home(), folder, 9).await.unwrap();
        let name = |(name, size): (String, Option<u64>)| match size {
            Some(_) => name,
            None => name + "/",
        };
        children.into_iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(children("").await, ["a/", "a0", "ab"]);
    assert_eq!(children("a").await, ["b", "c/"]);
    assert!(children("none").await.is_empty());
    assert!(store.kept_file(&home(), "a/b").await.unwrap().is_some());
    assert!(store.kept_file(&home(), "a").await.unwrap().is_none());
    let mut transaction = Transaction::new();
    transaction.drop_files(&home(), "a");
    store.commit(transaction).await.unwrap();
    assert_eq!(paths("").await, ["a0", "ab"]);
}

#[tokio::test]
async fn traces_come_newest_first_and_go_with_their_spans() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let mut transaction = Transaction::new();
    for number in 0..3_u8 {
        let trace = Trace {
            id: format!("tr-{number}"),
            began_at: Timestamp::from_millis(i64::from(number)),
            ..Trace::empty()
        };
        transaction.merge_trace(&home(), id(200), trace);
    }
    store.commit(transaction).await.unwrap();
    let before = Some((Timestamp::from_millis(2), "tr-2".to_owned()));
    let found = store
        .traces(&home(), vec![id(200)], before, 9)
        .await
        .unwrap();
    let ids: Vec<&str> = found.iter().map(|(_, trace)| trace.id.as_str()).collect();
    assert_eq!(ids, ["tr-1", "tr-0"]);
    let mut transaction = Transaction::new();
    transaction.delete_trace(&home(), "tr-1");
    store.commit(transaction).await.unwrap();
    assert!(store.trace(&home(), "tr-1").await.unwrap().is_none());
    let span = |body: &str| TraceSpan {
        trace: "tr-2".to_owned(),
        span: body.to_owned(),
        began_nanos: 1,
        body: body.to_owned(),
    };
    let mut transaction = Transaction::new();
    transaction.put_spans(&home(), vec![span("{}"), span("{ }")]);
    store.commit(transaction).await.unwrap();
    let read = async |bytes| store.spans(&home(), "tr-2", bytes).await.unwrap();
    assert_eq!(read(7).await.unwrap().len(), 2);
    assert!(read(6).await.is_none());
}

#[tokio::test]
async fn a_run_and_a_logged_model_never_share_an_id() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let mut transaction = Transaction::new();
    transaction.create_logged_model(logged_model(70, &home()), Vec::new(), Vec::new());
    store.commit(transaction).await.unwrap();
    let taken = refusal(&store, |t| _ = t.create(&run(70))).await;
    assert!(matches!(
        taken,
        Conflict::AlreadyExists {
            kind: Kind::Run,
            ..
        }
    ));
    for number in [1, 70] {
        let model = logged_model(number, &home());
        let taken = refusal(&store, |t| {
            t.create_logged_model(model, Vec::new(), Vec::new());
        });
        let expected = Conflict::LoggedModelExists { model: id(number) };
        assert_eq!(taken.await, expected);
    }
}

#[tokio::test]
async fn a_trace_does_not_grow_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let told = |number: usize| Trace {
        id: "tr-1".to_owned(),
        complete: true,
        tags: [(format!("k{number}"), "x".repeat(1 << 20))].into(),
        ..Trace::empty()
    };
    for number in 0..3 {
        let mut transaction = Transaction::new();
        transaction.merge_trace(&home(), id(200), told(number));
        store.commit(transaction).await.unwrap();
    }
    let more = refusal(&store, |t| _ = t.merge_trace(&home(), id(200), told(3)));
    assert!(matches!(more.await, Conflict::TraceTooLong { .. }));
    let change = TraceChange {
        tags: [("k".to_owned(), "y".repeat(1 << 20))].into(),
        ..TraceChange::default()
    };
    let more = refusal(&store, |t| _ = t.change_trace(&home(), "tr-1", change));
    assert!(matches!(more.await, Conflict::TraceTooLong { .. }));
}
