use lepton_types::signature::{Role, Task, TensorSpec};

use super::*;
use crate::engine::Output;
use crate::tensor::{Tensor, TensorData};

fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    TensorSpec::new(name, datatype, shape.to_vec())
}

fn signature(inputs: Vec<TensorSpec>) -> Signature {
    Signature {
        inputs,
        outputs: Vec::new(),
        task: None,
        classes: Vec::new(),
        target: None,
    }
}

fn tabular() -> Signature {
    signature(vec![
        spec("age", Datatype::Fp32, &[-1, 1]),
        spec("colour", Datatype::Bytes, &[-1, 1]),
        spec("visits", Datatype::Int64, &[-1]),
    ])
}

fn foreign() -> Signature {
    signature(vec![spec("X", Datatype::Fp32, &[-1, 3])])
}

fn parse(body: &str, signature: &Signature) -> RowsRequest {
    RowsRequest::parse(body.as_bytes(), signature).unwrap()
}

fn message(body: &str, signature: &Signature) -> String {
    RowsRequest::parse(body.as_bytes(), signature)
        .unwrap_err()
        .to_string()
}

#[test]
fn both_forms_give_the_same_inputs() {
    let objects = parse(
        r#"{"rows":[{"age":31.5,"colour":"red","visits":2},{"visits":"7","age":" 4e1 ","colour":5}]}"#,
        &tabular(),
    );
    let arrays = parse(
        r#"{"data":[["red",2,31.5],[5,7.0,40]],"columns":["colour","visits","age"]}"#,
        &tabular(),
    );
    assert_eq!(objects, arrays);
    assert_eq!(objects.rows, 2);
    assert_eq!(
        objects.inputs[0].tensor.data(),
        &TensorData::Fp32(vec![31.5, 40.0])
    );
    assert_eq!(objects.inputs[0].tensor.shape(), [2, 1]);
    assert_eq!(
        objects.inputs[1].tensor.data(),
        &TensorData::Bytes(vec!["red".into(), "5".into()])
    );
    assert_eq!(objects.inputs[2].tensor.shape(), [2]);
}

#[test]
fn null_and_empty_text_are_missing_values() {
    let request = parse(
        r#"{"columns":["age","colour","visits"],"data":[[null,null,1],["","",1]]}"#,
        &tabular(),
    );
    let TensorData::Fp32(ages) = request.inputs[0].tensor.data() else {
        panic!("{request:?}")
    };
    assert!(ages.iter().all(|age| age.is_nan()));
    assert_eq!(
        request.inputs[1].tensor.data(),
        &TensorData::Bytes(vec![String::new(), String::new()])
    );
}

#[test]
fn texts_are_taken_as_the_trainer_took_them_and_verbatim_for_a_foreign_model() {
    let trained = Signature {
        task: Some(Task::Regression),
        ..tabular()
    };
    let body = r#"{"columns":["colour","age","visits"],"data":[[" red ","N/A",1],["NA","?",1]]}"#;
    let texts = |signature| parse(body, signature).inputs[1].tensor.data().clone();
    assert_eq!(
        texts(&trained),
        TensorData::Bytes(vec!["red".into(), String::new()])
    );
    assert_eq!(
        texts(&tabular()),
        TensorData::Bytes(vec![" red ".into(), "NA".into()])
    );
}

#[test]
fn a_column_that_the_model_does_not_use_may_be_left_out() {
    let mut signature = tabular();
    signature.inputs[0].role = Role::Ignored;
    for body in [
        r#"{"columns":["colour","visits"],"data":[["a",1]]}"#,
        r#"{"rows":[{"colour":"a","visits":1}]}"#,
    ] {
        let request = parse(body, &signature);
        let TensorData::Fp32(ages) = request.inputs[0].tensor.data() else {
            panic!("{request:?}")
        };
        assert!(ages.len() == 1 && ages[0].is_nan());
    }
    signature.inputs[2].role = Role::Ignored;
    let whole = r#"{"rows":[{"colour":"a","age":1}]}"#;
    assert!(message(whole, &signature).starts_with("row 1 has no column `visits`"));
}

#[test]
fn a_foreign_models_columns_keep_their_order() {
    let rows = parse(
        r#"{"rows":[{"z":1,"b":2,"a":3},{"a":30,"z":10,"b":20}]}"#,
        &foreign(),
    );
    let expected = TensorData::Fp32(vec![1.0, 2.0, 3.0, 10.0, 20.0, 30.0]);
    assert_eq!(rows.inputs[0].tensor.data(), &expected);
    assert_eq!(rows.inputs[0].tensor.shape(), [2, 3]);
    let arrays = parse(
        r#"{"columns":["z","b","a"],"data":[[1,2,3],[10,20,30]]}"#,
        &foreign(),
    );
    assert_eq!(rows, arrays);
    let any = signature(vec![spec("X", Datatype::Fp64, &[-1, -1])]);
    assert_eq!(
        parse(r#"{"rows":[{"a":1,"b":2}]}"#, &any).inputs[0]
            .tensor
            .shape(),
        [1, 2]
    );
}

#[test]
fn no_rows_are_no_rows() {
    assert_eq!(parse(r#"{"rows":[]}"#, &tabular()).rows, 0);
    assert_eq!(parse(r#"{"rows":[]}"#, &foreign()).rows, 0);
}

#[test]
fn mistakes_are_told_with_row_and_column() {
    let good = r#"{"age":1,"colour":"a","visits":1}"#;
    let cases = [
        (
            format!(r#"{{"rows":[{good},{{"age":1,"color":"a","visits":1}}]}}"#),
            "row 2 has column `color`, which the model does not take: did you mean `colour`?",
        ),
        (
            format!(r#"{{"rows":[{good},{good},{{"age":1,"visits":1}}]}}"#),
            "row 3 has no column `colour`: give null where a value is missing",
        ),
        (
            r#"{"rows":[{"age":1,"age":2,"colour":"a","visits":1}]}"#.to_owned(),
            "row 1 has column `age` twice",
        ),
        (
            r#"{"rows":[{"age":"old","colour":"a","visits":1}]}"#.to_owned(),
            "row 1, column `age` expects FP32, got the text `old`",
        ),
        (
            r#"{"rows":[{"age":"inf","colour":"a","visits":1}]}"#.to_owned(),
            "row 1, column `age` expects FP32, got the text `inf`",
        ),
        (
            r#"{"rows":[{"age":1e300,"colour":"a","visits":1}]}"#.to_owned(),
            "row 1, column `age` expects FP32, got `1e300`",
        ),
        (
            r#"{"rows":[{"age":1,"colour":"a","visits":1.5}]}"#.to_owned(),
            "row 1, column `visits` expects INT64, got `1.5`",
        ),
        (
            r#"{"rows":[{"age":1,"colour":"a","visits":null}]}"#.to_owned(),
            "row 1, column `visits` expects INT64, got null, and this type has no missing value",
        ),
        (
            r#"{"rows":[{"age":[1],"colour":"a","visits":1}]}"#.to_owned(),
            "row 1, column `age` expects FP32, got an array",
        ),
        (
            r#"{"rows":[[1,"a",1]]}"#.to_owned(),
            "row 1 is an array, an object from column to value is expected",
        ),
        (
            r#"{"rows":[3]}"#.to_owned(),
            "row 1 is a number, an object from column to value is expected",
        ),
        (
            r#"{"columns":["age","colour"],"data":[]}"#.to_owned(),
            "`columns` has no column `visits`: give null where a value is missing",
        ),
        (
            r#"{"columns":["age","colour","visits","age"],"data":[]}"#.to_owned(),
            "`columns` has column `age` twice",
        ),
        (
            r#"{"columns":["age","colour","visits"],"data":[[1,"a"]]}"#.to_owned(),
            "row 1 has 2 values, `columns` names 3",
        ),
        (
            r#"{"columns":["age","colour","visits"],"data":[[1,"a",1,1]]}"#.to_owned(),
            "row 1 has 4 values, `columns` names 3",
        ),
        (
            r#"{"rows":[],"data":[]}"#.to_owned(),
            "give either `rows`, or `columns` and `data`",
        ),
    ];
    for (body, expected) in &cases {
        assert_eq!(message(body, &tabular()), *expected, "{body}");
    }
    assert_eq!(
        message(r#"{"rows":[{"a":1,"b":2}]}"#, &foreign()),
        "the model takes 3 columns in order, row 1 has 2"
    );
    assert_eq!(
        message(r#"{"columns":["a","b","c","d"],"data":[]}"#, &foreign()),
        "the model takes 3 columns in order, `columns` has 4"
    );
    assert!(message(r#"{"rows":[{"a":NaN}]}"#, &foreign()).contains("JSON has no NaN"));
    assert!(message(r#"{"rows":{}}"#, &foreign()).contains("an array of rows"));
    assert!(message(r#"{"row":[]}"#, &foreign()).contains("unknown field `row`"));
    let images = signature(vec![spec("pixels", Datatype::Fp32, &[-1, 3, 224, 224])]);
    assert_eq!(
        message(r#"{"rows":[]}"#, &images),
        "the model does not take rows (input `pixels` has shape [-1,3,224,224]): use the inference protocol"
    );
}

fn output(name: &str, shape: &[usize], data: TensorData) -> Output {
    Output {
        name: name.to_owned(),
        tensor: Tensor::new(shape.to_vec(), data).unwrap(),
        columns: None,
    }
}

fn predictions(signature: &Signature, outputs: &[Output], rows: usize) -> String {
    let predictions = Predictions::new(("m", "2"), signature, outputs, rows).unwrap();
    serde_json::to_string(&predictions).unwrap()
}

#[test]
fn a_classifier_answers_label_and_probabilities_by_class() {
    let signature = Signature {
        task: Some(Task::Classification),
        classes: vec!["no".into(), "yes".into()],
        ..tabular()
    };
    let outputs = [
        output(
            "out_a",
            &[2, 1],
            TensorData::Bytes(vec!["yes".into(), "no".into()]),
        ),
        output(
            "out_b",
            &[2, 2],
            TensorData::Fp32(vec![0.1, 0.9, 0.75, 0.25]),
        ),
    ];
    assert_eq!(
        predictions(&signature, &outputs, 2),
        concat!(
            r#"{"predictions":[{"label":"yes","probabilities":{"no":0.1,"yes":0.9}},"#,
            r#"{"label":"no","probabilities":{"no":0.75,"yes":0.25}}],"model":"m","version":"2"}"#
        )
    );
}

#[test]
fn a_regression_answers_a_prediction_and_a_foreign_model_its_own_names() {
    let regression = Signature {
        task: Some(Task::Regression),
        ..tabular()
    };
    let outputs = [output("y", &[1, 1], TensorData::Fp32(vec![1.25]))];
    assert!(
        predictions(&regression, &outputs, 1)
            .starts_with(r#"{"predictions":[{"prediction":1.25}]"#)
    );
    let outputs = [
        output("variable", &[1], TensorData::Fp64(vec![f64::NAN])),
        output("embedding", &[1, 2], TensorData::Fp32(vec![1.0, 2.0])),
    ];
    assert!(
        predictions(&foreign(), &outputs, 1)
            .starts_with(r#"{"predictions":[{"variable":null,"embedding":[1.0,2.0]}]"#)
    );
    let pooled = [output("total", &[1], TensorData::Fp32(vec![3.0]))];
    let error = Predictions::new(("m", "1"), &foreign(), &pooled, 2).unwrap_err();
    assert_eq!(error.output, "total");
}
