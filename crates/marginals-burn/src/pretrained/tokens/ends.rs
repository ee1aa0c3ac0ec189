//! Tokens that a model reads before and after every text.

use tokenizers::processors::template::{SpecialToken, TemplateProcessing};
use tokenizers::{Result, Tokenizer};

/// A piece of a vocabulary and its number.
pub(super) type Numbered = (String, u32);

/// Puts `first` before every text, and `last` after it.
pub(super) fn set(
    tokenizer: &mut Tokenizer,
    first: Option<Numbered>,
    last: Option<Numbered>,
) -> Result<()> {
    // Templates are texts with a grammar, and a piece can hold anything: it goes by another name there.
    let (mut template, mut tokens) = (vec!["$A"], Vec::new());
    let mut add = |name: &str, token: Option<Numbered>| -> Result<bool> {
        let Some((piece, id)) = token else { return Ok(false) };
        tokens.push(SpecialToken::new(name.to_owned(), vec![id], vec![piece])?);
        Ok(true)
    };
    if add("first", first)? {
        template.insert(0, "first");
    }
    if add("last", last)? {
        template.push("last");
    }
    if !tokens.is_empty() {
        let ends =
            TemplateProcessing::builder().try_single(template)?.special_tokens(tokens).build()?;
        tokenizer.with_post_processor(Some(ends));
    }
    Ok(())
}
