//! What was counted about changes of leader since the agent started.

use ha_decision::Counts;

use super::Page;

/// Names are made of letters and underscores: nothing to escape.
fn label(name: &str, value: &str) -> String {
    format!(",{name}=\"{value}\"")
}

fn seconds(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}

/// One counter with a label; what never happened has no line.
fn counted<'a>(
    page: &mut Page,
    (name, help): (&str, &str),
    of: &str,
    values: impl Iterator<Item = (&'a str, u64)>,
) {
    let mut values = values.peekable();
    if values.peek().is_some() {
        page.head(name, "counter", help);
    }
    for (value, count) in values {
        page.line(name, &label(of, value), count);
    }
}

pub(super) fn failover(page: &mut Page, counts: &Counts) {
    let won = counts.won.iter().map(|(word, count)| (word.as_str(), *count));
    let what = ("matriarch_failover_won_total", "Leaderships that this member won.");
    counted(page, what, "trigger", won);
    let elections = counts.elections.iter().map(|(word, count)| (*word, *count));
    let what = ("matriarch_failover_elections_total", "Attempts of this member to take over.");
    counted(page, what, "trigger", elections);
    let blocked = counts.blocked.iter().map(|(word, count)| (*word, *count));
    let what = ("matriarch_failover_blocked_total", "How often this member could not go on without help.");
    counted(page, what, "reason", blocked);
    let help = "How often agent and WAL of a leader were both silent for the detection time.";
    page.sample("matriarch_leader_suspicions_total", "counter", help, counts.suspicions);
    let help = "Promises of this member to confirm nothing more to a leader.";
    page.sample("matriarch_failover_promises_total", "counter", help, counts.promises);
    let help = "Attempts to abort a promise that led to nothing.";
    page.sample("matriarch_failover_aborts_total", "counter", help, counts.aborts);
    let help = "Changes of leader to this member that are over and told.";
    page.sample("matriarch_failover_told_total", "counter", help, counts.told);
    if counts.phases.is_empty() {
        return;
    }
    let name = "matriarch_failover_last_phase_seconds";
    page.head(name, "gauge", "Phases of the last change of leader to this member that had them.");
    for (phase, time) in &counts.phases {
        page.line(name, &label("phase", phase), seconds(time.last_ms));
    }
    let name = "matriarch_failover_phase_seconds";
    page.head(name, "summary", "Phases of all changes of leader to this member.");
    for (phase, time) in &counts.phases {
        page.line(&format!("{name}_sum"), &label("phase", phase), seconds(time.sum_ms));
        page.line(&format!("{name}_count"), &label("phase", phase), time.count);
    }
}

#[cfg(test)]
mod tests {
    use ha_decision::PhaseTime;

    use super::*;

    #[test]
    fn phases_are_seconds_and_words_are_labels() {
        let counts = Counts {
            won: [("leader_silent".to_owned(), 2)].into(),
            told: 2,
            phases: [("detect", PhaseTime { last_ms: 1500, sum_ms: 4000, count: 2 })].into(),
            promises: 3,
            ..Counts::default()
        };
        let mut page = Page { text: String::new(), labels: "name=\"pg1\"".to_owned() };
        failover(&mut page, &counts);
        for line in [
            "matriarch_failover_won_total{name=\"pg1\",trigger=\"leader_silent\"} 2\n",
            "matriarch_failover_promises_total{name=\"pg1\"} 3\n",
            "matriarch_failover_last_phase_seconds{name=\"pg1\",phase=\"detect\"} 1.5\n",
            "# TYPE matriarch_failover_phase_seconds summary\n",
            "matriarch_failover_phase_seconds_sum{name=\"pg1\",phase=\"detect\"} 4\n",
            "matriarch_failover_phase_seconds_count{name=\"pg1\",phase=\"detect\"} 2\n",
        ] {
            assert!(page.text.contains(line), "{line:?} is missing in:\n{}", page.text);
        }
        assert!(!page.text.contains("blocked"), "what never happened has no line:\n{}", page.text);
    }
}
