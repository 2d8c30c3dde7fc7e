//! What judging one handshake may cost, so that no peer can keep a runner busy.
//!
//! A `Certificate` message holds 64 KiB. Within that, a peer can serve layers of CAs of one name, RSA keys of 8,192
//! bits, thousands of names under thousands of constraints. Go tries 100 issuers and bounds nothing else; here each
//! signature counts with its price, and comparing names, usages and policies is counted as well. All of it together
//! stays below 50 ms; honest chains cost a hundredth. What is remembered ([`issuance`](crate::issuance)) costs the
//! same as what is checked: the verdict must not depend on what was seen before.

/// What is left to spend.
#[derive(Debug)]
pub(crate) struct Work {
    issuers: u32,
    microseconds: u32,
    comparisons: u32,
}

/// There is nothing left of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted;

impl Work {
    /// Certificates tried as issuers, as in Go.
    const ISSUERS: u32 = 100;
    /// Price of the signature checks together: 83 with keys on P-521, more than [`Self::ISSUERS`] with those that are
    /// in use.
    const MICROSECONDS: u32 = 20_000;
    /// Names against constraints and the like, some 10 ns each.
    const COMPARISONS: u32 = 1_000_000;

    /// The allowance of one handshake.
    pub(crate) fn of_a_handshake() -> Self {
        Self {
            issuers: Self::ISSUERS,
            microseconds: Self::MICROSECONDS,
            comparisons: Self::COMPARISONS,
        }
    }

    /// Before a certificate is tried as an issuer.
    pub(crate) fn try_issuer(&mut self) -> Result<(), Exhausted> {
        spend(&mut self.issuers, 1)
    }

    /// Before a signature is checked that takes about so many microseconds.
    pub(crate) fn check_signature(&mut self, microseconds: u32) -> Result<(), Exhausted> {
        spend(&mut self.microseconds, microseconds)
    }

    /// Before so many short texts are compared.
    pub(crate) fn compare(&mut self, count: usize) -> Result<(), Exhausted> {
        spend(
            &mut self.comparisons,
            u32::try_from(count).unwrap_or(u32::MAX),
        )
    }
}

/// An allowance that was exceeded once stays empty.
fn spend(left: &mut u32, amount: u32) -> Result<(), Exhausted> {
    let rest = left.checked_sub(amount);
    *left = rest.unwrap_or(0);
    rest.map(drop).ok_or(Exhausted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exceeded_stays_exceeded() {
        let mut work = Work::of_a_handshake();
        assert_eq!(work.check_signature(Work::MICROSECONDS), Ok(()));
        assert_eq!(work.check_signature(1), Err(Exhausted));
        assert_eq!(work.compare(usize::MAX), Err(Exhausted));
        assert_eq!(work.compare(1), Err(Exhausted));
        for _ in 0..Work::ISSUERS {
            assert_eq!(work.try_issuer(), Ok(()));
        }
        assert_eq!(work.try_issuer(), Err(Exhausted));
    }
}
