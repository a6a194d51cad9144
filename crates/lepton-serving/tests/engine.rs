//! The engine over real ONNX Runtime and real model files.
#![expect(clippy::unwrap_used, reason = "tests")]

mod rig;

use lepton_serving::engine::{Engine, InferError, LoadError, ModelSource, Output};
use lepton_serving::tensor::{NamedTensor, Tensor, TensorData};
use lepton_types::signature::{Datatype, Task};

fn load(name: &str) -> Engine {
    Engine::load(&rig::library(), ModelSource::File(&rig::model(name)), 1).unwrap()
}

fn named(name: &str, shape: &[usize], data: TensorData) -> NamedTensor {
    NamedTensor {
        name: name.to_owned(),
        tensor: Tensor::new(shape.to_vec(), data).unwrap(),
    }
}

fn floats(output: &Output) -> &[f32] {
    match output.tensor.data() {
        TensorData::Fp32(values) => values,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_element_type_goes_in_and_comes_out_as_it_was() {
    let mut engine = load("echo");
    let texts = ["", "ü", "a\u{1f980}b"].map(str::to_owned).to_vec();
    let given = vec![
        named("text", &[3, 1], TensorData::Bytes(texts)),
        named(
            "f32",
            &[3, 1],
            TensorData::Fp32(vec![0.1, f32::INFINITY, -0.0]),
        ),
        named("f64", &[3, 1], TensorData::Fp64(vec![0.1, 1e300, -1.0])),
        named(
            "i64",
            &[3, 1],
            TensorData::Int64(vec![i64::MIN, 0, i64::MAX]),
        ),
        named("i32", &[3, 1], TensorData::Int32(vec![i32::MIN, 0, 7])),
        named("u8", &[3, 1], TensorData::Uint8(vec![0, 255, 7])),
        named("flag", &[3, 1], TensorData::Bool(vec![true, false, true])),
    ];
    let outputs = engine.infer(given.clone()).unwrap();
    assert_eq!(outputs.len(), given.len());
    for input in given {
        let name = format!("{}_out", input.name);
        let output = outputs.iter().find(|output| output.name == name).unwrap();
        assert_eq!(output.tensor, input.tensor, "{name}");
    }
    let mut half = load("half");
    assert_eq!(half.signature().inputs[0].datatype, Datatype::Fp16);
    let values = TensorData::Fp16(vec![half::f16::from_f32(1.5)]);
    let outputs = half.infer(vec![named("x", &[1], values.clone())]).unwrap();
    assert_eq!(outputs[0].tensor.data(), &values);
    let mut brain = load("brain");
    assert_eq!(brain.signature().inputs[0].datatype, Datatype::Bf16);
    let values = |all: [f32; 2]| TensorData::Bf16(all.map(half::bf16::from_f32).to_vec());
    let outputs = brain
        .infer(vec![named("x", &[2], values([1.5, -3e38]))])
        .unwrap();
    assert_eq!(
        outputs[0].tensor.data(),
        &values([3.0, f32::NEG_INFINITY]),
        "the rounding is the type's"
    );
}

#[test]
fn no_rows_are_run_as_no_rows() {
    let mut engine = load("affine");
    let outputs = engine
        .infer(vec![named("x", &[0, 3], TensorData::Fp32(vec![]))])
        .unwrap();
    assert_eq!(outputs[0].tensor.shape(), [0, 2]);
    let mut zipped = load("iris_zipmap");
    let none = named("X", &[0, 4], TensorData::Fp32(vec![]));
    // Whether an operator takes an empty batch is the runtime's affair; it must not panic.
    let _ = zipped.infer(vec![none]);
}

#[test]
fn scikit_learns_zipmap_becomes_columns_named_by_class() {
    let mut engine = load("iris_zipmap");
    let signature = engine.signature().clone();
    assert_eq!(signature.classes, ["setosa", "versicolor", "virginica"]);
    assert_eq!(signature.outputs[1].name, "output_probability");
    assert_eq!(signature.outputs[1].shape, [-1, -1]);
    let rows = vec![5.1, 3.5, 1.4, 0.2, 5.0, 2.0, 3.5, 1.0, 6.9, 3.2, 5.7, 2.3];
    let outputs = engine
        .infer(vec![named("X", &[3, 4], TensorData::Fp32(rows))])
        .unwrap();
    assert_eq!(
        outputs[0].tensor.data(),
        &TensorData::Bytes(
            ["setosa", "versicolor", "virginica"]
                .map(str::to_owned)
                .to_vec()
        )
    );
    assert_eq!(outputs[1].columns.as_deref(), Some(&signature.classes[..]));
    // scikit-learn's own predict_proba on these rows, printed by make_models.py.
    let expected = [
        0.981_579_4,
        0.018_420_55,
        1.459_569_6e-8,
        0.055_950_854,
        0.937_473_95,
        0.006_575_095,
        5.661_025_6e-6,
        0.024_064_65,
        0.975_929_7,
    ];
    for (got, want) in floats(&outputs[1]).iter().zip(expected) {
        assert!((got - want).abs() < 1e-5, "{got} {want}");
    }
    let plain = load("iris_plain");
    assert_eq!(plain.signature().classes, ["0", "1", "2"]);
    assert_eq!(plain.signature().outputs[1].shape, [-1, 3]);
}

#[test]
fn a_model_tells_what_its_numbers_mean() {
    let mut engine = load("tabular");
    let signature = engine.signature();
    assert_eq!(signature.task, Some(Task::Classification));
    assert_eq!(signature.classes, ["no", "yes"]);
    assert_eq!(signature.target.as_deref(), Some("bought"));
    let colours = ["red", ""].map(str::to_owned).to_vec();
    let outputs = engine
        .infer(vec![
            named("colour", &[2, 1], TensorData::Bytes(colours)),
            named("age", &[2, 1], TensorData::Fp32(vec![30.5, f32::NAN])),
        ])
        .unwrap();
    let yes = 1.0 / (1.0 + (-1.5_f32).exp());
    let got = floats(&outputs[1]);
    assert!(
        (got[1] - yes).abs() < 1e-6 && (got[3] - 0.5).abs() < 1e-6,
        "{got:?}"
    );
}

#[test]
fn bad_models_are_refused_with_a_reason() {
    let library = rig::library();
    let refused = |bytes: &[u8]| {
        Engine::load(&library, ModelSource::Bytes(bytes), 1)
            .unwrap_err()
            .to_string()
    };
    assert!(refused(b"").starts_with("the model cannot be loaded: "));
    assert!(refused(b"not a model").starts_with("the model cannot be loaded: "));
    let whole = std::fs::read(rig::model("iris_zipmap")).unwrap();
    // Whether a prefix is a model is for the runtime to say; nothing may panic.
    for length in (0..whole.len()).step_by(37) {
        let _ = Engine::load(&library, ModelSource::Bytes(&whole[..length]), 1);
    }
    let sequence = std::fs::read(rig::model("sequence")).unwrap();
    assert_eq!(
        refused(&sequence),
        "output `s` is a sequence, which the inference protocol cannot carry"
    );
    let absent = Engine::load(&library, ModelSource::File(&rig::model("absent")), 1).unwrap_err();
    assert!(matches!(absent, LoadError::File { .. }), "{absent}");
}

#[test]
fn a_bad_library_is_refused_with_a_hint() {
    let absent = Engine::load(
        std::path::Path::new("/nowhere/libonnxruntime.so"),
        ModelSource::Bytes(b""),
        1,
    );
    assert!(
        absent
            .unwrap_err()
            .to_string()
            .contains("scripts/fetch-onnxruntime")
    );
    let _loaded = load("affine");
    let other = Engine::load(&rig::model("affine"), ModelSource::Bytes(b""), 1).unwrap_err();
    assert!(other.to_string().contains("already loaded"), "{other}");
}

#[test]
fn inputs_that_do_not_fit_never_reach_the_runtime() {
    let mut engine = load("affine");
    let error = engine
        .infer(vec![named("x", &[1, 2], TensorData::Fp32(vec![1.0, 2.0]))])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "input `x` expects shape [-1,3], got [1,2]"
    );
    let mut echo = load("tabular");
    let nul = vec![
        named("age", &[1, 1], TensorData::Fp32(vec![1.0])),
        named(
            "colour",
            &[1, 1],
            TensorData::Bytes(vec!["a\0b".to_owned()]),
        ),
    ];
    let error = echo.infer(nul).unwrap_err();
    assert!(
        matches!(error, InferError::NulInText { at: 0, .. }),
        "{error}"
    );
    // Lengths that differ between inputs are for the model to refuse.
    let uneven = vec![
        named("age", &[2, 1], TensorData::Fp32(vec![1.0, 2.0])),
        named("colour", &[3, 1], TensorData::Bytes(vec![String::new(); 3])),
    ];
    assert!(echo.infer(uneven).is_err());
    let good = vec![
        named("age", &[1, 1], TensorData::Fp32(vec![1.0])),
        named("colour", &[1, 1], TensorData::Bytes(vec!["red".to_owned()])),
    ];
    assert!(
        echo.infer(good).is_ok(),
        "a failed run leaves the engine usable"
    );
}
