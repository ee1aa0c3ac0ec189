//! What every operation does on Burn's tape.

use burn::backend::Flex;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients as Tape;
use burn::backend::autodiff::ops::Ops;

use super::flex::Primitive;

/// Takes the gradient that arrived at an operation off the tape, and puts those that `backward` finds
/// in its inputs on it. Inputs that nobody tracks are passed over, and so are those without a gradient.
pub(super) fn pass_on<S, G: Into<Option<Primitive>>, const N: usize>(
    ops: Ops<S, N>,
    tape: &mut Tape,
    backward: impl FnOnce(S, Primitive) -> [G; N],
) {
    let upstream = tape.consume::<Flex>(&ops.node);
    let found = backward(ops.state, upstream);
    for (parent, gradient) in ops.parents.into_iter().zip(found) {
        if let (Some(parent), Some(gradient)) = (parent, gradient.into()) {
            tape.register::<Flex>(parent.id, gradient);
        }
    }
}

/// Inputs that were checkpointed, kept or made again.
pub(super) fn retrieve<const N: usize>(
    nodes: [NodeId; N],
    checkpointer: &mut Checkpointer,
) -> [Primitive; N] {
    nodes.map(|node| checkpointer.retrieve_node_output::<Primitive>(node))
}
