//! Sizes that memory cannot hold, refused before anything is allocated.

use crate::Error;

/// Refuses `argument` where tensors of `shape` with `bytes` per entry, all copies together, are more than
/// can be allocated: running out of memory later would end the process.
///
/// # Errors
/// [`Error::Value`] with the size.
pub fn check_room(argument: &str, shape: &[usize], bytes: usize) -> Result<(), Error> {
    let needed = shape.iter().try_fold(bytes, |product, &axis| product.checked_mul(axis));
    let room = |needed| Vec::<u8>::new().try_reserve_exact(needed).is_ok();
    if needed.is_some_and(room) {
        return Ok(());
    }
    let gigabytes = shape.iter().fold(bytes as f64, |product, &axis| product * axis as f64) / 1e9;
    Err(Error::value(
        argument,
        "less: what can be allocated is not enough for it. Ask for less at a time",
        format!("so large that {shape:?} numbers and {gigabytes:.0} GB of memory are needed"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_memory_holds_is_refused_with_its_size() {
        assert_eq!(check_room("samples", &[1000, 2, 3], 8), Ok(()));
        assert_eq!(check_room("samples", &[usize::MAX, 0], 1), Ok(()));
        // More than any address space; and more than a count of bytes can say.
        for (shape, size) in [([1 << 40, 1 << 20], "9223372037 GB"), ([1 << 60, 1 << 20], "GB")] {
            let told = check_room("samples", &shape, 8).unwrap_err().to_string();
            assert!(told.contains("`samples`") && told.contains(size), "{told}");
            assert!(told.contains(&format!("{shape:?}")), "{told}");
        }
    }
}
