//! What ordered rules say about all the topics that one filter matches.
//!
//! A filter is as good as the topics that it matches, and those can be without number. But two topics that differ only in levels
//! of which no pattern speaks are the same to all of them. So the filter is walked level by level: at each wildcard of it there is one
//! way for each text that a pattern has there, and one for all other texts.

use std::ops::ControlFlow;

use lapwing_proto::topic::TopicFilter;

/// Looks at what the first fitting of `patterns` is for each topic that `filter` matches. `visit` is told the places of those
/// patterns, some of them more than once, and `None` where no pattern fits. It may end the walk.
///
/// A pattern is the text of a topic filter that is not shared.
///
/// # Errors
///
/// [`TooMany`] if the answer would take too long; what was visited until then is true, but may not be all.
pub(super) fn walk<'a>(
    filter: TopicFilter<'a>,
    patterns: impl Iterator<Item = &'a str>,
    mut visit: impl FnMut(Option<usize>) -> ControlFlow<()>,
) -> Result<(), TooMany> {
    let live: Vec<_> =
        patterns.enumerate().map(|(place, text)| Live { place, rest: Rest::Levels(text) }).collect();
    let steps = STEPS_MINIMUM + live.len() * STEPS_PER_PATTERN;
    let mut walk = Walk { visit: &mut visit, steps };
    match walk.visit(Rest::Levels(filter.pattern()), live, Depth::First) {
        Err(End::TooMany) => Err(TooMany),
        Ok(()) | Err(End::Asked) => Ok(()),
    }
}

/// The answer would take too long: the patterns have too many ways to differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

/// Looks at patterns that a walk may take, whatever filter a client thought of.
const STEPS_MINIMUM: usize = 20_000;
const STEPS_PER_PATTERN: usize = 16;

/// A pattern that fits the levels walked so far.
#[derive(Clone, Copy)]
struct Live<'a> {
    place: usize,
    rest: Rest<'a>,
}

impl Live<'_> {
    fn behind(&self) -> Self {
        Self { rest: self.rest.behind(), ..*self }
    }
}

/// How far a walk has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// The first level is next.
    First,
    /// The first level was empty: so no topic ends here, since none is empty as a whole.
    BehindEmpty,
    Further,
}

impl Depth {
    fn behind(self, level: &str) -> Self {
        if self == Self::First && level.is_empty() { Self::BehindEmpty } else { Self::Further }
    }
}

/// What follows of a pattern or of the filter.
#[derive(Clone, Copy)]
enum Rest<'a> {
    Levels(&'a str),
    /// Nothing: only the topic that ends here.
    Nothing,
    /// Behind `#`: everything, and also nothing.
    Everything,
}

impl<'a> Rest<'a> {
    /// The next level; `#` again and again where it was.
    fn level(self) -> Option<&'a str> {
        match self {
            Self::Levels(text) => text.split('/').next(),
            Self::Nothing => None,
            Self::Everything => Some("#"),
        }
    }

    /// What follows its next level.
    fn behind(self) -> Self {
        match self {
            Self::Levels("#") | Self::Everything => Self::Everything,
            Self::Levels(text) => match text.split_once('/') {
                Some((_, rest)) => Self::Levels(rest),
                None => Self::Nothing,
            },
            Self::Nothing => Self::Nothing,
        }
    }

    /// Whether the topic that ends here fits: with `#` also the parent.
    fn ends(self) -> bool {
        matches!(self, Self::Nothing | Self::Everything | Self::Levels("#"))
    }

    /// Whether all topics that go on from here fit, and the one that ends here.
    fn is_everything(self) -> bool {
        matches!(self, Self::Everything | Self::Levels("#"))
    }
}

enum End {
    Asked,
    TooMany,
}

struct Walk<'v, F> {
    visit: &'v mut F,
    steps: usize,
}

impl<F: FnMut(Option<usize>) -> ControlFlow<()>> Walk<'_, F> {
    /// `filter` goes on so, and these patterns fit until here, in their order. Patterns have a bounded number of levels, and without
    /// patterns it goes no deeper, so it does not recurse far.
    fn visit<'a>(&mut self, filter: Rest<'a>, mut live: Vec<Live<'a>>, depth: Depth) -> Result<(), End> {
        self.steps = self.steps.checked_sub(live.len() + 1).ok_or(End::TooMany)?;
        // Whatever comes behind a pattern that fits all of it is of no account.
        if matches!(filter, Rest::Nothing) && depth == Depth::BehindEmpty {
            return Ok(());
        }
        let is_system = depth == Depth::First && filter.level().is_some_and(|level| level.starts_with('$'));
        if let Some(first) = live.iter().position(|live| live.rest.is_everything() && !is_system) {
            live.truncate(first + 1);
        }
        match live.first() {
            None => return self.found(None),
            Some(first) if first.rest.is_everything() && !is_system => return self.found(Some(first.place)),
            Some(_) => {}
        }
        if filter.ends() && depth == Depth::Further {
            self.found(live.iter().find(|live| live.rest.ends()).map(|live| live.place))?;
        }
        match filter.level() {
            None => Ok(()),
            Some("+" | "#") => self.branch(filter.behind(), &live, depth),
            Some(text) => self.go(filter.behind(), &live, text, depth),
        }
    }

    /// The next level may be any.
    fn branch<'a>(&mut self, behind: Rest<'a>, live: &[Live<'a>], depth: Depth) -> Result<(), End> {
        let (mut wild, mut texts) = (Vec::new(), Vec::new());
        for live in live {
            match live.rest.level() {
                Some("+" | "#") => wild.push(live.behind()),
                Some(text) if depth == Depth::First && text.starts_with('$') => {} // [MQTT-4.7.2-1]
                Some(text) => texts.push((text, live.behind())),
                None => {}
            }
        }
        // First, since it is where rules are missing most often.
        self.visit(behind, wild.clone(), Depth::Further)?;
        texts.sort_unstable_by_key(|&(text, live)| (text, live.place));
        for group in texts.chunk_by(|one, other| one.0 == other.0) {
            let mut next: Vec<_> = group.iter().map(|&(_, live)| live).chain(wild.iter().copied()).collect();
            next.sort_unstable_by_key(|live| live.place);
            self.visit(behind, next, depth.behind(group[0].0))?;
        }
        Ok(())
    }

    /// The next level is this one.
    fn go<'a>(&mut self, behind: Rest<'a>, live: &[Live<'a>], text: &str, depth: Depth) -> Result<(), End> {
        let is_system = depth == Depth::First && text.starts_with('$');
        let fits = |live: &&Live<'a>| match live.rest.level() {
            Some("+" | "#") => !is_system,
            level => level == Some(text),
        };
        let next = live.iter().filter(fits).map(Live::behind).collect();
        self.visit(behind, next, depth.behind(text))
    }

    fn found(&mut self, place: Option<usize>) -> Result<(), End> {
        match (self.visit)(place) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(End::Asked),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lapwing_proto::topic::TopicName;
    use proptest::prelude::*;

    use super::*;

    fn found(filter: &str, patterns: &[String]) -> Result<BTreeSet<Option<usize>>, TooMany> {
        let mut found = BTreeSet::new();
        let filter = TopicFilter::new(filter).unwrap();
        walk(filter, patterns.iter().map(String::as_str), |place| {
            found.insert(place);
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    fn places(filter: &str, patterns: &[&str]) -> Vec<Option<usize>> {
        let patterns: Vec<_> = patterns.iter().map(|&text| text.to_owned()).collect();
        found(filter, &patterns).unwrap().into_iter().collect()
    }

    #[test]
    fn a_filter_is_covered_by_patterns_together() {
        assert_eq!(places("a/#", &["a", "a/+", "a/+/#"]), [Some(0), Some(1), Some(2)]);
        assert_eq!(places("a/#", &["a/+", "a/+/#"]), [None, Some(0), Some(1)], "the parent is missing");
        assert_eq!(places("a/#", &["a/+/#", "a"]), [Some(0), Some(1)]);
        assert_eq!(places("a/+", &["a/#", "a/+"]), [Some(0)]);
        assert_eq!(places("+/b", &["a/b", "+/+"]), [Some(0), Some(1)]);
        assert_eq!(places("$share/g/a/b", &["a/+"]), [Some(0)]);
    }

    #[test]
    fn topics_with_a_dollar_are_for_patterns_with_it() {
        assert_eq!(places("#", &["#"]), [Some(0)]);
        assert_eq!(places("#", &["$SYS/#", "#"]), [Some(1)]);
        assert_eq!(places("$SYS/#", &["#", "+/#"]), [None]);
        assert_eq!(places("$SYS/#", &["#", "$SYS/+", "$SYS/#"]), [Some(1), Some(2)]);
        assert_eq!(places("+/x", &["$SYS/x"]), [None]);
    }

    /// Every topic of up to this many levels, of these texts: `x` is of no pattern.
    fn topics() -> Vec<String> {
        let texts = ["a", "b", "", "$", "x"];
        let mut all: Vec<String> = texts.map(str::to_owned).to_vec();
        let mut last = all.clone();
        for _ in 1..5 {
            last = last.iter().flat_map(|topic| texts.map(|text| format!("{topic}/{text}"))).collect();
            all.extend(last.iter().cloned());
        }
        all.retain(|topic| !topic.is_empty());
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_500))]

        /// Patterns and filters have up to four levels, so that a fifth one is like all deeper ones.
        // [attack: filter-wider-than-rules]
        #[test]
        fn it_says_what_trying_every_topic_says(
            filter in "([ab$+]|)(/([ab$+]|)){0,3}|#|([ab$+]|)(/([ab$+]|)){0,2}/#",
            patterns in prop::collection::vec(
                "([ab$+]|)(/([ab$+]|)){0,3}|#|([ab$+]|)(/([ab$+]|)){0,2}/#", 0..6),
        ) {
            let patterns: Vec<_> = patterns.into_iter().filter(|text| !text.is_empty()).collect();
            if let Ok(valid) = TopicFilter::new(&filter) {
                let mut wanted = BTreeSet::new();
                for topic in topics() {
                    let topic = TopicName::new(&topic).unwrap();
                    if valid.matches(topic) {
                        let fits = |text: &String| TopicFilter::new(text).unwrap().matches(topic);
                        wanted.insert(patterns.iter().position(fits));
                    }
                }
                prop_assert_eq!(found(&filter, &patterns), Ok(wanted), "{} {:?}", filter, patterns);
            }
        }
    }

    // [attack: rules-that-never-end]
    #[test]
    fn the_walk_has_an_end() {
        // Each of them speaks of another level, so that every way to the end is one of its own.
        let patterns: Vec<_> =
            (0..40).map(|level| format!("{}a{}", "+/".repeat(level), "/+".repeat(39 - level))).collect();
        assert_eq!(found(&["+"; 40].join("/"), &patterns), Err(TooMany));
        // A filter with very many levels goes no deeper than the patterns do.
        let deep = format!("{}#", "+/".repeat(30_000));
        assert_eq!(found(&deep, &["+/+/a/#".into(), "+/b".into()]), Ok([None, Some(0)].into()));
        // Many patterns are no reason to give up.
        let many: Vec<_> = (0..10_000).map(|n| format!("a/{n}/#")).collect();
        assert_eq!(found("a/77/#", &many), Ok([Some(77)].into()));
        assert!(found("a/+/x", &many).is_ok_and(|found| found.len() == 10_001));
    }
}
