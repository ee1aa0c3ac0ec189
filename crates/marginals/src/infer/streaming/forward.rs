//! The forward pass: cutting it into tasks and putting their findings together.

use std::ops::Range;

use super::blocks::{FEWEST_KEYS, QUERY_BLOCK, TASKS, split};
use super::heads::{Care, HeadKeys, Preparation};
use super::rule::Rule;
use super::task::Task;
use super::{columns, rows};
use crate::infer::Problem;
use crate::infer::finding::Finding;
use crate::infer::statistic::Request;
use crate::tensor::all_finite;
use crate::{Block, Real, parallel};

/// The finding of every factor and query over a range of keys; `complete` takes in what factors may
/// choose beside their keys.
pub(crate) fn find<T: Real>(
    rule: &Rule<'_, T>,
    problem: &Problem<'_, T>,
    request: &Request<'_, T>,
    keys: Range<usize>,
    complete: bool,
) -> Finding<T> {
    let shape = &problem.shape;
    let task = Task::new(problem, request);
    let heads: Vec<(usize, usize)> = shape.all_heads().collect();
    let numbers = keys.start as i64 + shape.key_offset..keys.end as i64 + shape.key_offset;
    let nothing = |heads: usize| {
        let factors = match rule {
            Rule::Columns(_) => keys.len(),
            Rule::Rows(_) => shape.queries,
        };
        let sizes = (heads * factors, heads * shape.queries);
        let mut nothing = Finding::nothing(rule.merge(), request, sizes, numbers.clone());
        nothing.heads = heads;
        nothing
    };
    let all = match rule {
        _ if shape.queries == 0 || heads.is_empty() => nothing(heads.len()),
        Rule::Columns(_) => by_columns(&task, problem, &heads, keys.clone()),
        Rule::Rows(_) => by_rows(&task, rule, problem, &heads, keys.clone(), complete),
    };
    Finding { keys: numbers, complete, ..all }
}

/// Whether what a fast pass found shows that values not finite took part, perhaps where they must not.
fn is_spoiled<T: Real>(finding: &Finding<T>) -> bool {
    let lists = finding.linear.iter().flat_map(|e| [&e.values, &e.means, &e.edge_means]);
    lists.into_iter().any(|list| !all_finite(list))
}

/// Whether some query that is averaged over has so small a mass that what it gathered has lost its
/// digits. One that no key may serve has none to lose.
fn underflows<T: Real>(task: &Task<'_, T>, found: &Finding<T>, block: &Block) -> bool {
    if !task.averages || task.request.linear.is_empty() {
        return false;
    }
    let small = T::min_positive_value() / T::epsilon();
    let mut masses = found.mass.iter().zip(block.queries.clone());
    masses.any(|(&mass, query)| {
        mass < small && task.scorer.serves(Block { queries: query..query + 1, ..block.clone() })
    })
}

/// The finding of a task, with no more care than it takes: values that are not finite and masses that
/// underflow are rare, and whoever meets one pays for it, and nobody else.
fn with_care<'k, T: Real>(
    task: &Task<'_, T>,
    block: &Block,
    prepared: &HeadKeys<'_, T>,
    prepare: impl Fn(Care) -> HeadKeys<'k, T>,
    find: impl Fn(&HeadKeys<'_, T>, Care) -> Finding<T>,
) -> Finding<T> {
    let mut found = find(prepared, Care::Fast);
    if is_spoiled(&found) {
        found = find(&prepare(Care::Careful), Care::Careful);
    }
    if underflows(task, &found, block) {
        found = find(&prepare(Care::Scaled), Care::Scaled);
    }
    found
}

/// The finding of a run of queries that are ended where they were made.
fn by_rows<T: Real>(
    task: &Task<'_, T>,
    rule: &Rule<'_, T>,
    problem: &Problem<'_, T>,
    heads: &[(usize, usize)],
    keys: Range<usize>,
    complete: bool,
) -> Finding<T> {
    let shape = task.shape;
    let Rule::Rows(row_rule) = rule else { unreachable!("called with a rule of rows") };
    let row_rule = &**row_rule;
    let preparation = |care| Preparation { problem, care, many_edges: row_rule.has_many_edges() };
    let key_head = |(b, h): (usize, usize)| b * shape.key_heads + shape.key_head(h);
    let blocks: Vec<Range<usize>> = (0..shape.queries)
        .step_by(QUERY_BLOCK)
        .map(|first| first..(first + QUERY_BLOCK).min(shape.queries))
        .collect();
    let tasks: Vec<_> = heads
        .iter()
        .flat_map(|&head| blocks.iter().map(move |block| (head, block.clone())))
        .collect();
    // Few queries against many keys: the keys are split too, and the parts merged.
    let parts = match TASKS.div_ceil(tasks.len().max(1)) {
        1 => 1,
        parts => parts.min(keys.len().div_ceil(FEWEST_KEYS)).max(1),
    };
    let run = |prepared: &[HeadKeys<'_, T>], (head, block): &((usize, usize), Range<usize>)| {
        let head_keys = &prepared[key_head(*head)];
        let own = (head.0, shape.key_head(head.1));
        let keys = head_keys.keys.clone();
        let whole = shape.block(*head, block.clone(), keys.clone());
        let prepare =
            |care| preparation(care).head(&problem.k, Some(task.request), keys.clone(), own);
        with_care(task, &whole, head_keys, prepare, |head_keys, care| {
            rows::find(task, row_rule, head_keys, *head, block.clone(), care)
        })
    };
    let references = problem.references(keys.clone());
    let finish = |mut found: Finding<T>, (head, block): &((usize, usize), Range<usize>)| {
        if !references.is_empty() {
            let first = shape.head_number(*head) * shape.queries;
            found.references = references[first + block.start..first + block.end].to_vec();
            found.put_references_back();
        }
        if complete {
            let place = |row: usize| (*head, block.start + row);
            row_rule.complete(task.request, &mut found, &place);
        }
        found
    };
    // One task at a time to whoever is free: a core that other programs slow down gets fewer.
    let findings: Vec<Finding<T>> = if parts == 1 {
        let prepared = preparation(Care::Fast).all(&problem.k, Some(task.request), keys);
        parallel::map(tasks.len(), &|task| finish(run(&prepared, &tasks[task]), &tasks[task]))
    } else {
        let over = |keys: Range<usize>| -> Vec<Finding<T>> {
            let prepared = preparation(Care::Fast).all(&problem.k, Some(task.request), keys);
            parallel::map(tasks.len(), &|task| run(&prepared, &tasks[task]))
        };
        let mut ranges = parallel::map_each(split(keys, parts), &over).into_iter();
        let mut merged = ranges.next().expect("at least one range of keys");
        for next in ranges {
            merged.iter_mut().zip(next).for_each(|(all, next)| all.merge_checked(next));
        }
        merged.into_iter().zip(&tasks).map(|(found, cut)| finish(found, cut)).collect()
    };
    let findings = Finding::concatenate(findings, heads.len());
    findings.expect("at least one head and one query")
}

fn by_columns<T: Real>(
    task: &Task<'_, T>,
    problem: &Problem<'_, T>,
    heads: &[(usize, usize)],
    keys: Range<usize>,
) -> Finding<T> {
    let shape = task.shape;
    let chunks = split(keys.clone(), TASKS.div_ceil(heads.len().max(1)));
    let preparation = |care| Preparation { problem, care, many_edges: true };
    let prepared = preparation(Care::Fast).all(&problem.k, Some(task.request), keys.clone());
    let key_head = |(b, h): (usize, usize)| b * shape.key_heads + shape.key_head(h);
    let tasks: Vec<_> = heads
        .iter()
        .flat_map(|&head| chunks.iter().map(move |chunk| (head, chunk.clone())))
        .collect();
    let references = problem.references(keys.clone());
    let parts = parallel::map_each(tasks, &|(head, chunk)| {
        let first = shape.head_number(head) * keys.len();
        let own = first + chunk.start - keys.start..first + chunk.end - keys.start;
        let own_references = references.get(own).unwrap_or_default();
        let head_keys = &prepared[key_head(head)];
        let own = (head.0, shape.key_head(head.1));
        let whole = shape.block(head, 0..shape.queries, chunk.clone());
        let prepare =
            |care| preparation(care).head(&problem.k, Some(task.request), keys.clone(), own);
        with_care(task, &whole, head_keys, prepare, |head_keys, care| {
            columns::find(task, head_keys, head, (chunk.clone(), own_references), care)
        })
    });
    let by_head = parts.into_iter();
    let mut all = Vec::with_capacity(heads.len());
    for part in by_head {
        match all.last_mut() {
            Some((count, whole)) if *count < chunks.len() => {
                let whole: &mut Finding<T> = whole;
                whole.merge_checked(part);
                *count += 1;
            }
            _ => all.push((1, part)),
        }
    }
    let all = all.into_iter().map(|(_, whole)| whole).collect();
    let all = Finding::concatenate(all, heads.len()).expect("at least one head");
    Finding { references, ..all }
}
