//! Records of a saved state, checked before anything is computed with them.
//!
//! Burn reads a record that has been damaged as far as it can: it panics at some things, begins anew where
//! a part is missing, and broadcasts what is too small.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::ModuleOptimizer;
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Tensor};
use burn_pack::{DType, Reader};

use crate::caught::caught;
use crate::checkpoint::weights::are_finite;

/// Moments that the optimiser keeps of every weight: the mean of gradients and that of their squares.
const MOMENTS: usize = 2;

/// `module` with the weights of a record.
///
/// # Errors
/// Why the record is not one of such a module.
pub(super) fn load_weights<M: Module>(module: M, bytes: &[u8]) -> Result<M, String> {
    let load = || -> Result<M, String> {
        let record = ModuleRecord::from_bytes(owned(bytes)).map_err(|e| e.to_string())?;
        let module = module.try_load_record(record).map_err(|e| e.to_string())?;
        match are_finite(&module) {
            true => Ok(module),
            false => Err("some are no finite numbers".to_owned()),
        }
    };
    caught(load).flatten().map_err(|reason| format!("its weights are damaged ({reason})"))
}

/// `optimiser` with the moments that a record has of `module` after `steps` steps.
///
/// # Errors
/// Why the record is not one of that.
pub(super) fn load_moments(
    optimiser: ModuleOptimizer,
    module: &impl Module,
    steps: usize,
    bytes: &[u8],
) -> Result<ModuleOptimizer, String> {
    let load = || -> Result<ModuleOptimizer, String> {
        let mut weights = Shapes::default();
        module.visit(&mut weights);
        let count = check_moments(&weights.0, steps, bytes)?;
        let optimiser = optimiser.from_bytes(owned(bytes)).map_err(|e| e.to_string())?;
        // What could not be read was left out, and would begin anew.
        match optimiser.to_record().len() == count {
            true => Ok(optimiser),
            false => Err("some have no count of their steps".to_owned()),
        }
    };
    caught(load)
        .flatten()
        .map_err(|reason| format!("its optimiser's moments are damaged ({reason})"))
}

/// Number of moments in a record, once every weight has its own, of its shape and of that many steps.
fn check_moments(
    weights: &HashMap<u64, Vec<usize>>,
    steps: usize,
    bytes: &[u8],
) -> Result<usize, String> {
    let reader = Reader::from_bytes(owned(bytes)).map_err(|e| e.to_string())?;
    let other = reader.scalars().iter().find(|(name, count)| {
        name.ends_with(".time") && usize::try_from(**count).ok() != Some(steps)
    });
    if let Some((name, count)) = other {
        return Err(format!("`{name}` is {count:?} after {steps} steps"));
    }
    let moments = reader.into_tensors().map_err(|e| e.to_string())?;
    let mut found: HashMap<u64, usize> = HashMap::new();
    for moment in &moments {
        let weight = moment.param_id.and_then(|id| weights.get_key_value(&id));
        let Some((id, shape)) = weight else {
            return Err(format!("`{}` is of no weight of the model", moment.name));
        };
        if moment.shape.to_vec() != *shape || moment.dtype != DType::F32 {
            return Err(format!(
                "`{}` is {:?} {:?}, of a weight that is F32 {shape:?}",
                moment.name,
                moment.dtype,
                moment.shape.to_vec()
            ));
        }
        *found.entry(*id).or_default() += 1;
    }
    match weights.keys().find(|id| found.get(id) != Some(&MOMENTS)) {
        None => Ok(moments.len()),
        Some(id) => Err(format!(
            "a weight has {} moments instead of {MOMENTS}",
            found.get(id).copied().unwrap_or(0)
        )),
    }
}

fn owned(bytes: &[u8]) -> Bytes {
    Bytes::from_bytes_vec(bytes.to_vec())
}

/// The shape of every weight that is learned, by its number.
#[derive(Default)]
struct Shapes(HashMap<u64, Vec<usize>>);

impl ModuleVisitor for Shapes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            self.0.insert(param.id.val(), param.val().dims().to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use burn_pack::{Scalar, Tensor as Stored, Writer};

    use super::*;
    use crate::train::config::tests::CONFIG;
    use crate::train::{Corpus, TrainConfig, Training};

    const STEPS: usize = 2;

    /// A run after two steps, and the two records of its state.
    fn run() -> (Training, Vec<u8>, Vec<u8>) {
        let corpus = Corpus::split(b"to be, or not to be: ".repeat(20), 0.2, 8).unwrap();
        let mut training = Training::new(TrainConfig::from_toml(CONFIG).unwrap(), corpus).unwrap();
        for _ in 0..STEPS {
            training.step().unwrap();
        }
        let state = training.save().unwrap();
        let state = safetensors::SafeTensors::deserialize(&state).unwrap();
        let part = |name| state.tensor(name).unwrap().data().to_vec();
        (training, part("model"), part("optimiser"))
    }

    /// A record with other tensors and scalars.
    fn rewritten(
        record: &[u8],
        change: impl Fn(&mut Vec<Stored>, &mut Vec<(String, Scalar)>),
    ) -> Vec<u8> {
        let reader = Reader::from_bytes(owned(record)).unwrap();
        let mut scalars: Vec<_> = reader.scalars().clone().into_iter().collect();
        let metadata = reader.metadata().clone();
        let mut tensors = reader.into_tensors().unwrap();
        change(&mut tensors, &mut scalars);
        let mut writer = Writer::new(tensors);
        for (name, value) in &scalars {
            writer = writer.with_scalar(name, *value);
        }
        for (key, text) in &metadata {
            writer = writer.with_metadata(key, text);
        }
        writer.into_bytes().unwrap().to_vec()
    }

    /// The first tensor of two numbers or more as another.
    fn of_shape(tensors: &mut [Stored], shape: Vec<usize>, dtype: DType) {
        let index = tensors.iter().position(|t| t.shape.to_vec().iter().product::<usize>() > 1);
        let tensor = &mut tensors[index.expect("a vector or a matrix")];
        let count: usize = shape.iter().product();
        let bytes = Bytes::from_bytes_vec(vec![0; count * dtype.size()]);
        *tensor = Stored::new(tensor.name.clone(), dtype, shape, tensor.param_id, bytes);
    }

    #[test]
    fn moments_that_do_not_belong_to_the_weights_are_refused() {
        let (training, _, record) = run();
        let module = training.model();
        let module = module.train();
        let load = |bytes: &[u8], steps| {
            let fresh = training.config().optimiser.init();
            load_moments(fresh, &module, steps, bytes).map(drop)
        };
        assert_eq!(load(&record, STEPS), Ok(()));
        assert_eq!(load(&rewritten(&record, |_, _| ()), STEPS), Ok(()));
        type Change = fn(&mut Vec<Stored>, &mut Vec<(String, Scalar)>);
        let changes: [(Change, &str); 8] = [
            // What Burn would broadcast, panic at, or begin anew.
            (|tensors, _| of_shape(tensors, vec![1], DType::F32), "of a weight that is"),
            (|tensors, _| of_shape(tensors, vec![2; 9], DType::F32), "of a weight that is"),
            (|tensors, _| of_shape(tensors, vec![3, 5], DType::I64), "of a weight that is"),
            (|tensors, _| drop(tensors.pop()), "a weight has 1 moments"),
            (|tensors, _| drop(tensors.drain(..2)), "a weight has 0 moments"),
            (|tensors, _| tensors[0].param_id = Some(1), "of no weight"),
            (|tensors, _| tensors[0].param_id = None, "of no weight"),
            (|_, scalars| scalars.retain(|(name, _)| !name.ends_with(".time")), "no count"),
        ];
        for (change, told) in changes {
            let error = load(&rewritten(&record, change), STEPS).unwrap_err();
            assert!(error.contains("moments are damaged") && error.contains(told), "{error}");
        }
        assert!(load(&record, STEPS + 1).unwrap_err().contains("after 3 steps"));
        for bytes in [&[][..], &[0; 100], &record[..record.len() / 2]] {
            assert!(load(bytes, STEPS).unwrap_err().contains("moments are damaged"));
        }
    }

    #[test]
    fn weights_that_are_none_are_refused() {
        let (training, record, _) = run();
        let module = training.model();
        let load = |bytes: &[u8]| load_weights(module.clone(), bytes).map(drop);
        assert_eq!(load(&record), Ok(()));
        let not_finite = rewritten(&record, |tensors, _| {
            let tensor = &mut tensors[0];
            let count = tensor.byte_len() / 4;
            let bytes = Bytes::from_bytes_vec(f32::NAN.to_le_bytes().repeat(count));
            let shape = tensor.shape.to_vec();
            *tensor = Stored::new(tensor.name.clone(), DType::F32, shape, tensor.param_id, bytes);
        });
        assert!(load(&not_finite).unwrap_err().contains("no finite numbers"));
        let whole = rewritten(&record, |tensors, _| of_shape(tensors, vec![3, 5], DType::I64));
        let fewer = rewritten(&record, |tensors, _| drop(tensors.pop()));
        let half = rewritten(&record, |tensors, _| {
            let tensor = &mut tensors[0];
            let bytes = Bytes::from_bytes_vec(vec![0; tensor.byte_len() * 2]);
            let shape = tensor.shape.to_vec();
            *tensor = Stored::new(tensor.name.clone(), DType::F64, shape, tensor.param_id, bytes);
        });
        for bytes in [&whole[..], &fewer, &half, &[], &record[..record.len() / 2]] {
            let error = load(bytes).unwrap_err();
            assert!(error.contains("weights are damaged"), "{error}");
        }
    }
}
