//! Bytes of the log: mask, stamp, repair, cut, checksum (`runner-protocol.md` 5).
