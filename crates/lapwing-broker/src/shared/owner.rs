//! How many sessions each user has.

use std::sync::{Arc, PoisonError};

use hashbrown::HashMap;

use crate::sync::Mutex;

/// Counts sessions by whose they are; those of nobody are not counted.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    counts: Mutex<HashMap<Arc<str>, usize>>,
}

impl Owners {
    /// A session was somebody's, and is somebody else's now.
    pub(crate) fn change(&self, before: Option<&Arc<str>>, after: Option<&Arc<str>>) {
        if before == after {
            return;
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(after) = after {
            *counts.entry(Arc::clone(after)).or_insert(0) += 1;
        }
        if let Some(before) = before
            && let Some(count) = counts.get_mut(before)
        {
            *count -= 1;
            if *count == 0 {
                counts.remove(before);
            }
        }
    }

    /// How many sessions somebody has.
    pub(crate) fn count(&self, owner: &str) -> usize {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).get(owner).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_counted_by_whose_they_are() {
        let (owners, anna, bert) = (Owners::default(), Arc::<str>::from("anna"), Arc::<str>::from("bert"));
        owners.change(None, Some(&anna));
        owners.change(None, Some(&anna));
        owners.change(Some(&anna), Some(&anna));
        owners.change(None, None);
        assert_eq!((owners.count("anna"), owners.count("bert")), (2, 0));
        owners.change(Some(&anna), Some(&bert));
        owners.change(Some(&anna), None);
        assert_eq!((owners.count("anna"), owners.count("bert")), (0, 1));
    }
}
