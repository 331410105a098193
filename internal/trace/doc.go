// Package trace exports what happened to jobs as traces of OpenTelemetry.
//
// Each end of a job is given to one dispatcher, which calls JobEnded. Of each that is sampled the events are read afterwards, and its trace is
// made of them and of their times (spans.go) and exported by OTLP. So nothing is recorded while a job is under way, and a job whose trace is
// not exported costs next to nothing.
//
// Traces are kept in memory until the receiver has them, up to mostPending jobs and for some minutes: what a process has not exported when it
// dies is lost, as are its counts for metrics. Nothing of a job depends on it. The ids of a trace are derived from the job (ids.go), so the same
// trace has the same ids whoever exports it.
//
// The names are those of OpenTelemetry's conventions for messaging. The trace continues that of the publisher when the job's message has a
// header traceparent (W3C Trace Context).
package trace
