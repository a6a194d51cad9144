//! Searching runs, page by page.

use super::*;

#[tokio::test]
async fn runs_are_found_by_what_holds_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let metric = |key: &str| RunField::Metric(key.to_owned());
    let above = Test::Number(Comparison::Above, 3.0);
    assert_eq!(with(&store, metric("m"), above).await, ["run 5", "run 4"]);
    // NaN differs from everything, and compares with nothing else.
    let differs = Test::Number(Comparison::Differs, 1.0);
    assert_eq!(with(&store, metric("odd"), differs).await, ["run 3"]);
    let below = Test::Number(Comparison::Below, 9.0);
    assert_eq!(with(&store, metric("odd"), below).await, ["run 4"]);
    let param = || RunField::Param("p".to_owned());
    assert_eq!(
        with(&store, param(), Test::Is("even".to_owned()))
            .await
            .len(),
        3
    );
    assert_eq!(with(&store, param(), Test::Absent).await.len(), 0);
    let tag = || RunField::Tag("Name".to_owned());
    assert_eq!(
        with(&store, tag(), Test::Like("n%".to_owned())).await.len(),
        0
    );
    assert_eq!(
        with(&store, tag(), Test::LikeAnyCase("n_".to_owned()))
            .await
            .len(),
        6
    );
    assert_eq!(
        with(&store, tag(), Test::Like("N[2]".to_owned()))
            .await
            .len(),
        0
    );
    let ids = vec![id(1).to_string(), "x".to_owned()];
    let field = RunField::Text(TextField::Id);
    assert_eq!(with(&store, field, Test::Among(ids)).await, ["run 1"]);
    let started = RunField::Number(NumberField::Started);
    let early = Test::Number(Comparison::AtMost, 1_001.0);
    assert_eq!(with(&store, started, early).await, ["run 1", "run 0"]);
}

#[tokio::test]
async fn the_order_puts_what_is_missing_last_and_pages_follow() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let ordered = |descending| RunSearch {
        order: vec![RunOrder {
            field: RunField::Metric("odd".to_owned()),
            descending,
        }],
        ..everything()
    };
    for descending in [false, true] {
        let found = names(&store, ordered(descending)).await;
        assert_eq!(&found[..3], ["run 4", "run 3", "run 5"], "{descending}");
    }
    let page = RunSearch {
        offset: 4,
        limit: 1,
        ..everything()
    };
    let found = store.search_runs(page).await.unwrap();
    assert!(found.more);
    assert_eq!(found.runs[0].head.name, "run 1");
    assert_eq!(found.runs[0].metrics[0].value, 1.0);
}

#[tokio::test]
async fn a_page_of_runs_ends_before_the_data_that_all_of_them_describe_is_too_long() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder).await;
    let data = RunDataset {
        name: "long".to_owned(),
        digest: "d".to_owned(),
        source_type: "local".to_owned(),
        source: String::new(),
        schema: None,
        profile: Some("x".repeat(15 << 20)),
        tags: Vec::new(),
    };
    for number in 0..6 {
        let mut transaction = Transaction::new();
        transaction.link_datasets(id(number).into(), id(200).into(), vec![data.clone()]);
        store.commit(transaction).await.unwrap();
    }
    let first = store.search_runs(everything()).await.unwrap();
    assert_eq!((first.count, first.more), (5, true));
    let rest = RunSearch {
        offset: 5,
        ..everything()
    };
    let rest = store.search_runs(rest).await.unwrap();
    assert_eq!((rest.count, rest.more), (1, false));
}
