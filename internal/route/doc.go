// Package route decides: which host takes a job, whose turn it is, who is blocked and for how long.
//
// Guarantee: no decision ever names a host that is blocked for the job, excluded by it, known to be incapable
// of it, or full; and equal facts give equal decisions, in whatever order the facts came in. Nothing here reads
// a clock, waits, or does I/O; the time is an argument.
//
// [Fleet] is all that is known of hosts, [Room] is the waiting room, [Strikes] is the memory of one pair of host
// and hash. Fleet and Room are mutable and belong to one goroutine; all else is values.
//
// How a decision stays cheap: hosts have dense numbers, so that "online", "has a free slot", "capable of this
// hash", "blocked for it" are bit sets, and choosing is a sequence of intersections, 64 hosts at a time; see
// choose.go. Waiting jobs that are alike form a class, and classes that the same hosts can take form a pool, so
// that work which cannot run now is passed over as a whole; see pool.go.
package route
