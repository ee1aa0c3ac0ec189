//! Progress of long computations: one line on standard error, where that is a terminal, and no wider than it.

mod narrow;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use console::Term;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use narrow::Narrow;

/// Times a second that the line is drawn at most.
const DRAWN: u8 = 20;

/// The line that is shown, and the unit it counts in, where it counts.
static SHOWN: Mutex<Option<(ProgressBar, Option<&'static str>)>> = Mutex::new(None);

fn show(bar: &ProgressBar, unit: Option<&'static str>) {
    *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some((bar.clone(), unit));
}

/// Where the line is drawn.
fn terminal() -> ProgressDrawTarget {
    let terminal = Term::buffered_stderr();
    match terminal.is_term() {
        true => ProgressDrawTarget::term_like_with_hz(Box::new(Narrow(terminal)), DRAWN),
        false => ProgressDrawTarget::hidden(),
    }
}

/// Begins to count up to `of`, in `unit`s: "layer", say.
pub fn start(of: usize, unit: &'static str) -> ProgressBar {
    resume(0, of, unit, Duration::ZERO)
}

/// Goes on counting from `done`, which took `spent`. The time left is that of what is to come, at the pace
/// of what has been counted since.
pub fn resume(done: usize, of: usize, unit: &'static str, spent: Duration) -> ProgressBar {
    let bar = line(done, of, unit, spent, terminal());
    // A step may take long, and the clock goes on.
    bar.enable_steady_tick(Duration::from_secs(1));
    show(&bar, Some(unit));
    bar
}

/// A line of work that is not counted.
pub fn working(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, terminal()).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    show(&bar, None);
    bar
}

fn line(
    done: usize,
    of: usize,
    unit: &str,
    spent: Duration,
    target: ProgressDrawTarget,
) -> ProgressBar {
    let columns = usize::from(Term::stderr().size().1);
    let bar_width = (columns / 10).clamp(4, 24);
    let bar = ProgressBar::with_draw_target(Some(of as u64), target)
        .with_position(done as u64)
        .with_elapsed(spent);
    let left = move |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        if (done as u64 + 1..of as u64).contains(&state.pos()) {
            // Writing to memory cannot fail.
            let _ = write!(text, ", {:#} left", HumanDuration(state.eta()));
        }
    };
    // The message comes last, and is cut where the terminal ends.
    let counted = format!("{{bar:{bar_width}}} {unit} {{pos}}/{{len}}");
    if let Ok(style) =
        ProgressStyle::with_template(&format!("{counted}  {{elapsed}}{{left}}  {{wide_msg}}"))
    {
        bar.set_style(style.with_key("left", left));
    }
    // What was done before is counted now, so that it does not count as done in no time later.
    bar.tick();
    bar.reset_eta();
    bar
}

/// Takes the line away, and says how far it was, where it counted: "12 of 30 layers", say.
pub fn clear() -> Option<String> {
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some((bar, unit)) = shown else {
        // A terminal writes `^C` where there is no line either.
        let terminal = Term::stderr();
        if terminal.is_term() {
            let _ = terminal.clear_line();
        }
        return None;
    };
    let (done, of) = (bar.position(), bar.length().unwrap_or(0));
    bar.finish_and_clear();
    // Whoever still counts draws nothing any more.
    bar.set_draw_target(ProgressDrawTarget::hidden());
    unit.map(|unit| format!("{done} of {of} {unit}{}", if of == 1 { "" } else { "s" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_that_of_the_steps_to_come() {
        let spent = Duration::from_secs(1000);
        let bar = line(9_000, 10_000, "step", spent, ProgressDrawTarget::hidden());
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(100));
            bar.inc(1);
            bar.tick();
        }
        // 997 steps of a tenth of a second or more.
        assert!(bar.eta() > Duration::from_secs(60), "{:?}", bar.eta());
        assert!(bar.elapsed() > spent);
    }
}
