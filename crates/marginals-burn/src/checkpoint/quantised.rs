//! Weights that tools have quantised in ways of their own, told by the names of their tensors.

use super::Checkpoint;
use crate::error::ModelError;

/// Ends of names, and the tools that write them.
const MARKS: [(&str, &str); 12] = [
    (".qweight", "GPTQ or AWQ"),
    (".qzeros", "GPTQ or AWQ"),
    (".weight.absmax", "bitsandbytes"),
    (".weight.quant_map", "bitsandbytes"),
    (".weight_format", "bitsandbytes"),
    (".SCB", "bitsandbytes"),
    (".weight_scale_inv", "factors of blocks beside its tensors"),
    (".weight_scale", "factors beside its tensors"),
    (".weight_packed", "compressed-tensors"),
    (".W_q", "HQQ"),
    (".codebooks", "AQLM"),
    (".q_weight", "EXL2"),
];

/// Refuses a checkpoint whose weights are quantised, and one that holds an adapter alone.
///
/// # Errors
/// [`ModelError::Unsupported`], naming the tensor and the method.
pub(crate) fn refuse_quantised(checkpoint: &dyn Checkpoint) -> Result<(), ModelError> {
    let mut names = checkpoint.names();
    names.sort_unstable();
    let refused =
        |reason| Err(ModelError::Unsupported { path: checkpoint.path().to_path_buf(), reason });
    for name in &names {
        if let Some((_, method)) = MARKS.iter().find(|(end, _)| name.ends_with(end)) {
            return refused(format!(
                "it holds `{name}`: its weights are quantised by {method}; weights that are not, or a \
                 GGUF file, are read"
            ));
        }
        if name.contains(".lora_A.") || name.contains(".lora_B.") {
            return refused(format!(
                "it holds `{name}`: an adapter (LoRA) that is not merged into its model; \
                 `merge_and_unload` of the package `peft` merges it"
            ));
        }
    }
    Ok(())
}
