//! Every line that a job's log shows, one function a line.
