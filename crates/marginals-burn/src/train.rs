//! Language models over bytes: trained, saved, gone on with, and made to write.
//!
//! A [`Training`] is a state that [`Training::step`] moves. Everything that is drawn is drawn from the
//! configuration's seed and the number of the step, so a state that was saved and loaded goes on as
//! if nothing had happened.

mod config;
mod corpus;
mod first_weights;
mod independent;
mod record;
pub mod reference;
mod run;
mod sample;

pub use config::{Batches, LmSettings, Optimiser, SampleSettings, TrainConfig};
pub use corpus::Corpus;
pub use independent::{ThreadsError, run_all};
pub use run::{Measurement, Point, Raised, Step, TrainError, Training, bits_per_byte};
pub use sample::sample;
