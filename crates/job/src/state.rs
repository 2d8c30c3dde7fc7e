//! The job as a state machine: `(state, event) -> (state, actions)` (`style.md` section 6).
