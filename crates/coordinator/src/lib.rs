//! The embedded GitLab side: runner API, queue, store, Git over HTTPS.
