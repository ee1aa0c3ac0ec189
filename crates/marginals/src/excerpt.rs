//! As much of a text as a message can carry.

use std::borrow::Cow;

/// A text of at most about `most` characters: one that is longer loses its middle, and says how much of it.
/// Files may hold names of any length.
///
/// ```
/// use marginals::excerpt;
/// assert_eq!(excerpt("causal", 20), "causal");
/// assert_eq!(excerpt(&"x".repeat(1000), 8), "xxxxxx… (992 characters cut) …xx");
/// ```
pub fn excerpt(text: &str, most: usize) -> Cow<'_, str> {
    // No text has more characters than bytes.
    let count = if text.len() <= most { text.len() } else { text.chars().count() };
    if count <= most {
        return text.into();
    }
    let (first, last) = (most - most / 4, most / 4);
    let at = |character| text.char_indices().nth(character).map_or(text.len(), |(byte, _)| byte);
    let (first, last) = (at(first), at(count - last));
    let cut = count - most;
    format!("{}… ({cut} characters cut) …{}", &text[..first], &text[last..]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_and_not_split() {
        let text = "ψ→東🦀".repeat(30);
        for most in 0..125 {
            let cut = excerpt(&text, most);
            match most {
                120.. => assert_eq!(cut, text),
                _ => {
                    let (first, rest) = cut.split_once("… (").expect("it says that it was cut");
                    let (number, last) = rest.split_once(" characters cut) …").expect("how much");
                    assert!(text.starts_with(first) && text.ends_with(last));
                    assert_eq!(number.parse::<usize>(), Ok(120 - most));
                    assert_eq!(first.chars().count() + last.chars().count(), most);
                }
            }
        }
    }
}
