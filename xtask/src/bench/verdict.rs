//! Goals held against results.

use super::goal::{Bound, Goal, Other, Variant};
use super::peer::Kind;
use super::result::{Results, Run};
use super::scenario::Set;

/// Whether Lapwing does what a goal wants.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    pub(super) goal: Goal,
    pub(super) who: Kind,
    /// Nothing when every run of Lapwing has failed.
    pub(super) comparison: Option<Comparison>,
    pub(super) is_met: bool,
}

/// What was compared.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Comparison {
    pub(super) ours: f64,
    /// Who else, and its median, unless the number stands for itself.
    pub(super) other: Option<(String, f64)>,
    /// What the limit is for.
    pub(super) figure: f64,
}

/// A verdict for each goal and each Lapwing that it is about, and the goals that could not be judged.
pub(super) fn judge(goals: &[Goal], results: &Results) -> (Vec<Verdict>, Vec<Goal>) {
    let (mut verdicts, mut open) = (Vec::new(), Vec::new());
    for goal in goals {
        let who = variants(goal.of, results);
        let mut found: Vec<Verdict> = who.into_iter().filter_map(|who| verdict(goal, who, results)).collect();
        if found.is_empty() {
            open.push(goal.clone());
        }
        verdicts.append(&mut found);
    }
    (verdicts, open)
}

fn verdict(goal: &Goal, who: Kind, results: &Results) -> Option<Verdict> {
    let comparison = compare(goal, who, results);
    let is_met = comparison.as_ref().is_some_and(|comparison| match goal.bound {
        Bound::AtMost(limit) | Bound::AtMostTimes(limit, _) => comparison.figure <= limit,
        Bound::TimesBelow(limit, _) | Bound::TimesAbove(limit, _) => comparison.figure >= limit,
    });
    let is_judged = comparison.is_some() || has_failed(goal, who, results);
    is_judged.then(|| Verdict { goal: goal.clone(), who, comparison, is_met })
}

/// Whether there are runs of `who`, and none of them has a result.
fn has_failed(goal: &Goal, who: Kind, results: &Results) -> bool {
    let mut runs = results.runs(who, goal.cell.unwrap_or_default()).peekable();
    runs.peek().is_some() && runs.all(Run::has_failed)
}

fn variants(of: Variant, results: &Results) -> Vec<Kind> {
    let wanted: &[Kind] = match of {
        Variant::Any => &[Kind::Lapwing, Kind::LapwingOneShard],
        Variant::Default => &[Kind::Lapwing],
        Variant::OneShard => &[Kind::LapwingOneShard],
        Variant::TwoShards => &[Kind::LapwingTwoShards],
    };
    wanted.iter().copied().filter(|kind| results.participant(*kind).is_some()).collect()
}

fn compare(goal: &Goal, who: Kind, results: &Results) -> Option<Comparison> {
    let Some(cell) = goal.cell else {
        let ours = results.median_of_all(who, goal.field)?;
        return Some(Comparison { ours, other: None, figure: ours });
    };
    let Some(other) = goal.bound.other() else {
        let ours = results.median(who, cell, goal.field)?;
        return Some(Comparison { ours, other: None, figure: ours });
    };
    let compared = places(other, who, cell).into_iter().filter_map(|place| {
        let (ours, theirs) = results.medians_of_same_rounds((who, cell), place, goal.field)?;
        let (figure, badness) = match goal.bound {
            Bound::TimesBelow(..) => (theirs / ours, ours / theirs),
            Bound::TimesAbove(..) => (ours / theirs, theirs / ours),
            _ => (ours / theirs, ours / theirs),
        };
        let name = if let Other::OwnCell(name) = other { name } else { place.0.id() };
        // Nothing can be said of a share of nothing.
        let comparison = Comparison { ours, other: Some((name.to_owned(), theirs)), figure };
        badness.is_finite().then_some((badness, comparison))
    });
    // Of several, the one that we look worst against.
    compared.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, comparison)| comparison)
}

fn places(other: Other, who: Kind, cell: &'static str) -> Vec<(Kind, &'static str)> {
    match other {
        Other::Peer(peer) => vec![(peer, cell)],
        Other::Each(peers) => peers.iter().map(|&peer| (peer, cell)).collect(),
        Other::OwnCell(own) => vec![(who, own)],
    }
}

/// What went wrong in all runs of a peer, each a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Faults {
    pub(super) runs: u64,
    /// Runs without a result: not done in time, or the load generator gave up.
    pub(super) failed: u64,
    /// Runs at whose end the peer was gone.
    pub(super) died: u64,
    /// Messages, but for QoS 0 without a window, where dropping is right.
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    pub(super) protocol_errors: u64,
    /// Connections that the peer closed, and subscriptions that it refused.
    pub(super) refused: u64,
}

impl Faults {
    pub(super) fn of(peer: Kind, results: &Results) -> Self {
        let mut faults = Self::default();
        for run in results.runs.iter().filter(|run| run.peer == peer) {
            faults.add(run);
        }
        faults
    }

    fn add(&mut self, run: &Run) {
        let count = |field: &str| run.values.get(field).and_then(serde_json::Value::as_u64).unwrap_or(0);
        self.runs += 1;
        self.failed += u64::from(run.failure.is_some());
        self.died += u64::from(run.died);
        if run.set != Set::Blast {
            self.lost += count("lost");
        }
        self.lost += count("bystander_lost");
        self.duplicated += count("dup") + count("bystander_dup");
        self.reordered += count("reordered") + count("bystander_reordered");
        self.protocol_errors += count("proto_errors") + count("bystander_proto_errors");
        self.refused += count("closed") + count("sub_failed") + count("bystander_closed");
    }

    /// All that went wrong.
    pub(super) fn total(self) -> u64 {
        let of_runs = self.failed + self.died + self.refused;
        of_runs + self.lost + self.duplicated + self.reordered + self.protocol_errors
    }
}

#[cfg(test)]
mod tests {
    use super::super::result::tests::{results, run};
    use super::*;

    fn goal(bound: Bound) -> Goal {
        Goal { title: "x", cell: Some("a"), field: "x", bound, of: Variant::Any }
    }

    /// The verdict about Lapwing with the number 2, Mosquitto with 20 and NATS with 1.
    fn only(bound: Bound) -> Verdict {
        let runs = [(Kind::Lapwing, 2.0), (Kind::Mosquitto, 20.0), (Kind::Nats, 1.0)];
        let results = results(runs.map(|(kind, value)| run("a", kind, 1, "x", value)).into());
        let (mut verdicts, open) = judge(&[goal(bound)], &results);
        assert_eq!((verdicts.len(), open.len()), (1, 0));
        verdicts.remove(0)
    }

    #[test]
    fn each_bound_has_its_direction() {
        let mosquitto = Other::Peer(Kind::Mosquitto);
        let cases = [
            (Bound::AtMost(2.0), 2.0, true),
            (Bound::AtMost(1.9), 2.0, false),
            (Bound::AtMostTimes(0.1, mosquitto), 0.1, true),
            (Bound::AtMostTimes(0.09, mosquitto), 0.1, false),
            (Bound::TimesBelow(10.0, mosquitto), 10.0, true),
            (Bound::TimesBelow(11.0, mosquitto), 10.0, false),
            (Bound::TimesAbove(0.1, mosquitto), 0.1, true),
            (Bound::TimesAbove(0.2, mosquitto), 0.1, false),
        ];
        for (bound, figure, is_met) in cases {
            let verdict = only(bound);
            assert_eq!((verdict.comparison.unwrap().figure, verdict.is_met), (figure, is_met), "{bound:?}");
        }
    }

    #[test]
    fn of_several_the_hardest_counts() {
        let several = Other::Each(&[Kind::Nats, Kind::Mosquitto, Kind::Rumqttd]);
        let other = |bound| only(bound).comparison.unwrap().other.unwrap().0;
        assert_eq!(other(Bound::TimesAbove(1.0, several)), "mosquitto");
        assert_eq!(other(Bound::AtMostTimes(1.0, several)), "nats");
        assert_eq!(other(Bound::TimesBelow(1.0, several)), "nats");
    }

    #[test]
    fn what_is_not_measured_is_open() {
        let results = results(vec![run("a", Kind::Lapwing, 1, "x", 1.0), run("a", Kind::Bare, 2, "x", 1.0)]);
        let other_round = goal(Bound::AtMostTimes(1.0, Other::Peer(Kind::Bare)));
        let other_variant = Goal { of: Variant::OneShard, ..goal(Bound::AtMost(1.0)) };
        let (verdicts, open) = judge(&[other_round, other_variant], &results);
        assert_eq!((verdicts.len(), open.len()), (0, 2));
    }

    #[test]
    fn failing_is_not_meeting() {
        let mut run = run("a", Kind::Lapwing, 1, "x", 1.0);
        run.failure = Some("not done".to_owned());
        let (verdicts, open) = judge(&[goal(Bound::AtMost(1.0))], &results(vec![run]));
        assert_eq!((verdicts.len(), open.len()), (1, 0));
        assert!(verdicts[0].comparison.is_none() && !verdicts[0].is_met);
    }

    #[test]
    fn faults_are_summed_up() {
        let mut runs = vec![
            run("a", Kind::Lapwing, 1, "lost", 0.0),
            run("a", Kind::Lapwing, 2, "x", 0.0),
            run("b", Kind::Lapwing, 1, "x", 0.0),
        ];
        assert_eq!(Faults::of(Kind::Lapwing, &results(runs.clone())).total(), 0);
        runs[0].values.insert("lost".to_owned(), 3.into());
        runs[1].died = true;
        runs[2].set = Set::Blast;
        runs[2].values.insert("lost".to_owned(), 1000.into());
        runs[2].values.insert("bystander_reordered".to_owned(), 1.into());
        let faults = Faults::of(Kind::Lapwing, &results(runs));
        assert_eq!(faults, Faults { runs: 3, died: 1, lost: 3, reordered: 1, ..Faults::default() });
        assert_eq!(faults.total(), 5);
    }
}
