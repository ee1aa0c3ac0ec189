//! Memory that comes in large pages.

/// Asks the system to back fresh memory by large pages, where it is worth it.
///
/// A large answer is written once. In pages of 4 KiB, being handed them one by one takes longer than
/// the writing does, and threads wait for each other meanwhile. The contents are left alone; where the
/// system has no such pages, nothing happens. Ask before the memory is first touched.
pub fn large_pages<T>(memory: &mut [T]) {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        /// A large page of x86-64 and of most others.
        const LARGE: usize = 2 << 20;
        const SMALL: usize = 4 << 10;
        let bytes = memory.as_mut_ptr_range();
        // What lies in part on a page of somebody else's is theirs.
        let start = (bytes.start as usize).next_multiple_of(SMALL);
        let end = bytes.end as usize / SMALL * SMALL;
        let length = end.saturating_sub(start);
        if length < 2 * LARGE {
            return;
        }
        // SAFETY: the range lies within memory that is borrowed here alone, and this advice changes
        // neither contents nor access. Advice that the system does not take is no failure.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = memory;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_stay_what_they_are() {
        for len in [0, 1, 1 << 10, (1 << 20) + 3, 3 << 20] {
            let mut memory: Vec<u64> = (0..len).collect();
            large_pages(&mut memory);
            assert!(memory.iter().copied().eq(0..len));
            let mut fresh = vec![0u64; len as usize];
            large_pages(&mut fresh);
            assert!(fresh.iter().all(|&x| x == 0));
        }
    }

    /// The system marks what it was asked about with `hg` (proc(5), `VmFlags`).
    #[test]
    #[cfg(all(target_os = "linux", not(miri)))]
    fn the_system_is_asked() {
        if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
            eprintln!("SKIPPED: this kernel has no transparent large pages");
            return;
        }
        let mut memory = vec![0u8; 64 << 20];
        large_pages(&mut memory);
        let middle = memory.as_ptr() as usize + memory.len() / 2;
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("this process's memory");
        let mut holds_it = false;
        let flags = maps.lines().find(|line| {
            let range = line.split(' ').next().and_then(|word| word.split_once('-'));
            let end = |text| usize::from_str_radix(text, 16).ok();
            if let Some((Some(start), Some(end))) = range.map(|(a, b)| (end(a), end(b))) {
                holds_it = (start..end).contains(&middle);
            }
            holds_it && line.starts_with("VmFlags:")
        });
        let flags = flags.expect("the memory is mapped");
        assert!(flags.split_whitespace().any(|flag| flag == "hg"), "{flags}");
    }
}
