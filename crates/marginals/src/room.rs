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

/// Entries that the axes of a tensor without any may ask for.
const MOST_CLAIMED: usize = 1 << 20;

/// Refuses a tensor without entries whose other axes claim many: [2³², 0] takes no byte of a file, and what
/// is made of it has a row for each.
///
/// # Errors
/// [`Error::Shape`] naming `tensor`.
pub fn check_claim(tensor: &str, shape: &[usize]) -> Result<(), Error> {
    let axes = || shape.iter().filter(|&&axis| axis > 0);
    let claimed = axes().try_fold(1usize, |product, &axis| product.checked_mul(axis));
    if axes().count() == shape.len() || claimed.is_some_and(|claimed| claimed <= MOST_CLAIMED) {
        return Ok(());
    }
    Err(Error::shape(
        tensor,
        format!("entries, or axes beside those of 0 that multiply to at most {MOST_CLAIMED}"),
        shape,
        "It holds nothing, and every answer about it would be as large as it says.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_nothing_may_not_claim_much() {
        for shape in [&[][..], &[0], &[3, 0, 5], &[0, 1 << 20], &[1 << 40], &[1 << 40, 1 << 40]] {
            assert_eq!(check_claim("x", shape), Ok(()), "{shape:?}");
        }
        for shape in [&[1 << 32, 0][..], &[0, (1 << 20) + 1], &[1 << 62, 0, 1 << 62]] {
            let told = check_claim("x", shape).unwrap_err().to_string();
            assert!(told.contains("`x`") && told.contains(&format!("{shape:?}")), "{told}");
        }
    }

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
