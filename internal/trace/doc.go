// Package trace exports what happened to jobs as traces of OpenTelemetry.
//
// The guarantee: of each job that has ended one trace is exported by OTLP, by whichever process gets the event of its end, once in most
// cases. A trace that is exported again, after a crash, has the same ids. Nothing is recorded while a job is under way: the trace is made
// of the events of the job, afterwards, with their times (spans.go). While the receiver cannot be reached, the ends wait in NATS.
//
// The names are those of OpenTelemetry's conventions for messaging. The trace continues that of the publisher when the job's message has a
// header traceparent (W3C Trace Context); otherwise its id is derived from the job (ids.go), so that it can be computed again.
package trace
