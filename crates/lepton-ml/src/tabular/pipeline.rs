//! A fitted pipeline: preparation, one or more models, and the scale of the answer.
//!
//! Owns: prediction from raw rows. Must not know: how its parts were chosen.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::frame::Frame;
use super::models::{Config, Goal, Model, Stop};
use super::prepare::{Features, Preparation, PrepareError};
use super::target::TargetValues;

/// Everything that turns raw rows into predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// What happens to the raw columns.
    pub preparation: Preparation,
    /// The models; their predictions are averaged by weight.
    pub members: Vec<Member>,
    /// From the models' scale to the target's.
    pub scale: Scale,
}

/// A model of an ensemble.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// How it was fitted.
    pub config: Config,
    /// What came out.
    pub model: Model,
    /// Its part; all parts sum to 1.
    pub weight: f32,
}

/// The line from a model's numbers to the target's; identity for classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// Added.
    pub offset: f32,
    /// Multiplied by.
    pub factor: f32,
}

impl Scale {
    /// The mean and deviation of a target.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "32-bit models"
    )]
    pub fn of(target: &TargetValues) -> Self {
        let TargetValues::Numbers(values) = target else {
            return Self {
                offset: 0.0,
                factor: 1.0,
            };
        };
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt();
        // A fold may hold one number only.
        let factor = if deviation > 0.0 {
            deviation as f32
        } else {
            1.0
        };
        Self {
            offset: mean as f32,
            factor,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "32-bit models")]
    fn shrink(self, value: f64) -> f32 {
        ((value - f64::from(self.offset)) / f64::from(self.factor)) as f32
    }

    /// Brings a model's numbers to the target's scale.
    pub fn stretch(self, predictions: &mut [f32]) {
        if self.factor != 1.0 || self.offset != 0.0 {
            predictions
                .iter_mut()
                .for_each(|p| *p = *p * self.factor + self.offset);
        }
    }
}

/// Prepared training rows and their targets on the models' scale.
#[derive(Debug, Clone)]
pub struct Lesson {
    /// The rows' features.
    pub features: Features,
    /// The scale of the target.
    pub scale: Scale,
    target: TargetValues,
    scaled: Vec<f32>,
}

impl Lesson {
    /// Scales the target.
    #[must_use]
    pub fn new(features: Features, target: TargetValues) -> Self {
        let scale = Scale::of(&target);
        let scaled = match &target {
            TargetValues::Numbers(values) => values.iter().map(|v| scale.shrink(*v)).collect(),
            TargetValues::Classes { .. } => Vec::new(),
        };
        Self {
            features,
            scale,
            target,
            scaled,
        }
    }

    /// What is to be learned, on its own scale.
    #[must_use]
    pub fn target(&self) -> &TargetValues {
        &self.target
    }

    /// Fits a model; `None` if told to stop.
    #[must_use]
    pub fn fit(&self, config: &Config, rng: &mut ChaCha8Rng, stop: Stop<'_>) -> Option<Model> {
        let goal = match &self.target {
            TargetValues::Classes { labels, names, .. } => Goal::Classes {
                labels,
                count: names.len(),
            },
            TargetValues::Numbers(_) => Goal::Numbers(&self.scaled),
        };
        config.fit(&self.features, goal, rng, stop)
    }
}

impl Pipeline {
    /// Row-major probabilities, or one number a row.
    ///
    /// # Errors
    /// Fails if a column that the model needs is not there or of another type.
    pub fn predict(&self, frame: &Frame) -> Result<Vec<f32>, PrepareError> {
        Ok(self.predict_features(&self.preparation.apply(frame)?, frame.rows()))
    }

    /// The same from prepared rows.
    #[must_use]
    pub fn predict_features(&self, features: &Features, rows: usize) -> Vec<f32> {
        let each = self
            .members
            .iter()
            .map(|m| (m.weight, m.model.predict(features, rows)));
        let mut mean = average(each);
        self.scale.stretch(&mut mean);
        mean
    }
}

/// The weighted mean of predictions, added in order in 32 bits as the graph does.
pub(super) fn average(predictions: impl Iterator<Item = (f32, Vec<f32>)>) -> Vec<f32> {
    let mut mean: Vec<f32> = Vec::new();
    for (weight, mut own) in predictions {
        own.iter_mut().for_each(|p| *p *= weight);
        if mean.is_empty() {
            mean = own;
        } else {
            mean.iter_mut().zip(own).for_each(|(m, p)| *m += p);
        }
    }
    mean
}
