//! Roots with provenance and generations, the certificate verifier, bundles and explanations.
