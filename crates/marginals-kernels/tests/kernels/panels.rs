use half::{bf16, f16};
use marginals_kernels::*;
use proptest::prelude::*;

use crate::{columns, numbers, on_every_set};

fn check<T: Real>(set: InstructionSet, depth: usize, columns: usize, spare: usize, seed: u64) {
    let source: Vec<f32> = numbers((depth + spare) * (columns + spare), seed, 2.0);
    let halves: Vec<f16> = source.iter().map(|&x| f16::from_f32(x)).collect();
    let brains: Vec<bf16> = source.iter().map(|&x| bf16::from_f32(x)).collect();
    let strides = [(columns + spare, 1), (1, depth + spare), (1, (depth + spare).max(3) - 1)];
    let mut reused = Panels::<T>::pack(set, &vec![7f32; 40 * 70], 40, 70, 70, 1);
    for (depth_stride, column_stride) in strides {
        let last =
            depth.saturating_sub(1) * depth_stride + columns.saturating_sub(1) * column_stride;
        if last >= source.len() {
            continue;
        }
        let at = |d: usize, c: usize| d * depth_stride + c * column_stride;
        let full = Panels::<T>::pack(set, &source, depth, depth_stride, columns, column_stride);
        let half = Panels::<T>::pack(set, &halves, depth, depth_stride, columns, column_stride);
        let brain = Panels::<T>::pack(set, &brains, depth, depth_stride, columns, column_stride);
        reused.repack(set, &source, depth, depth_stride, columns, column_stride);
        assert_eq!((full.depth(), full.columns()), (depth, columns));
        for d in 0..depth {
            for c in 0..columns {
                assert_eq!(full.get(d, c).f64(), f64::from(source[at(d, c)]), "{set:?}");
                assert_eq!(reused.get(d, c).f64(), f64::from(source[at(d, c)]), "{set:?} again");
                assert_eq!(half.get(d, c).f64(), f64::from(halves[at(d, c)]), "{set:?} f16");
                assert_eq!(brain.get(d, c).f64(), f64::from(brains[at(d, c)]), "{set:?} bf16");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 100 }))]
    #[test]
    fn packing_keeps_every_entry(depth in columns(), columns in columns(), spare in 0usize..9, seed: u64) {
        on_every_set!(check(depth, columns, spare, seed));
    }
}
