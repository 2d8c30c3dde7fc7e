//! A private world for each test: odd certificates, strict fakes, faults. Never shipped.
