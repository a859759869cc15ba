//! How keys are hashed: with a secret, so that nobody can choose keys that meet; in tests with none, so that a run
//! can be repeated.

#[cfg(not(test))]
pub(crate) use hashbrown::DefaultHashBuilder as HashBuilder;

#[cfg(test)]
pub(crate) type HashBuilder = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;
