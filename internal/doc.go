// Package internal is the plan of the house: what lives where, what may know what,
// and the way a job takes through it. It holds no code; the tests beside it keep
// this plan and the tree the same.
//
// # Floors
//
// Arrows only point down: a room imports rooms of lower floors and, on floor 0, its
// neighbours to the right. Floor 1 has one foreign world per room, and those rooms
// never import each other, so each world can change alone. The world of NATS has two
// rooms: the user's, and the fleet's, which imports it.
//
//	floor 3   cmd/dispatcher                cmd/agent               flags in, exit code out
//	floor 2   internal/dispatcher           internal/agent          actors: the loops   (later: internal/gateway, internal/dashboard)
//	floor 1   internal/queue -> jetstream   internal/comfy   internal/daemon   internal/embedded   internal/access
//	          NATS                          ComfyUI          the OS            in-process NATS     keys of NATS
//	floor 0   internal/route, internal/history, internal/names -> internal/job -> internal/workflow, internal/failure
//	          pure: no clock, no I/O, no goroutines, no logger
//	beside    internal/bench                internal/crew
//	          internal/comfysim
//	          test/integration   test/chaos   test/growth   test/docs
//
// # Rooms
//
//	cmd/dispatcher        the operator's command: run, demo, submit, watch, and questions to a running fleet
//	cmd/agent             the command beside ComfyUI: one process, one loop per host in COMFY_HOSTS
//	internal/bench        measures the whole beside the raw limit of NATS in the same run
//	internal/dispatcher   pulls jobs, chooses hosts, offers, settles failures, announces blocks
//	internal/agent        takes offers, keeps leases alive, runs jobs on its hosts, reports, tells who is there
//	jetstream             the public package: a tenant's client, which submits jobs, follows them and asks about them
//	internal/queue        what dispatchers and agents share on NATS: leases, chains of events, tickets, offers, presence, files, calls
//	internal/names        the names of everything on NATS: streams, buckets, subjects, headers, and how they are built and read
//	internal/comfy        one ComfyUI host over HTTP and websocket; every way it can fail becomes a failure.Kind
//	internal/comfysim     a ComfyUI that runs nothing: same protocol, real sockets, faults by script, for tests and the demo
//	internal/daemon       connection, log, flags and their variables, signals, version, health and metrics: what both commands need
//	internal/embedded     nats-server with JetStream inside the process, alone or as a cluster for tests
//	internal/access       the folder of a closed fleet's keys: NATS accounts, what each may do, credentials, revocations
//	internal/crew         goroutines that are kept for later work, so that their stacks are
//	internal/route        choosing a host, whose turn it is, strikes, blocks and cooldowns, as functions of now
//	internal/history      events folded into one row a job: lists, pages, counts
//	internal/job          bytes to jobs and events and back; ids, lanes and names
//	internal/workflow     parsing, refusing, hashing and changing ComfyUI graphs, byte for byte
//	internal/failure      the closed set of failure kinds and what follows from each
//	internal              this plan and the tests that hold it true
//	test/integration      the promises of the README, on real in-process NATS and simulated ComfyUI over sockets
//	test/chaos            nothing is lost and nothing ends twice: real processes under kill -9, stops and cut connections
//	test/growth           memory does not grow with time: a soak beside NATS in a process of its own
//	test/docs             reads README and docs; its tests, and those of the commands, hold them against code and wire
//
// # The path of a job
//
// A publisher stores a job in COMFY_JOBS, and there it stays until it has ended.
// A dispatcher (internal/dispatcher) pulls it through internal/queue, has internal/job
// and internal/workflow read it, appends the event "queued" to the job's chain, and
// asks internal/route for a host. If no host can take it now, it becomes a ticket
// in COMFY_WAITING that any dispatcher may claim later; otherwise it is offered to
// the host's agent with its lease, the delivery's ack subject.
//
// The agent (internal/agent) accepts, and from then on it alone keeps the lease
// alive. It appends "started", has internal/comfy run the prompt, stores the
// outputs, appends "completed" and acks, which removes the job. When the attempt
// fails, internal/comfy says with which kind, the agent appends "failed", and any
// dispatcher settles it: internal/failure gives the verdict, internal/route the
// strikes and blocks, and the job is tried again, parked, or dead.
//
// Three mechanisms carry this, all in internal/queue: the lease (who owns a job now), the
// chain (a job's events are appended by compare-and-set, so there is one end and
// the last event is the state), and the waiting room (a ticket is claimed once).
// No process keeps anything that is not in JetStream, so any may be killed.
//
// An actor has one rhythm: read the wire, decide on floor 0, write the wire. A
// decision never waits, and a wire call never decides.
//
// # Where to put what
//
//	it could run on paper, given now as an argument                 floor 0
//	it parses a workflow, hashes it, lists what it needs            internal/workflow
//	it says why something failed and what follows                   internal/failure
//	it turns bytes into a job or an event, or back                  internal/job
//	it lists or counts jobs by what their events say                internal/history
//	it compares, ranks, counts, computes a delay or a block         internal/route
//	it is the name of a subject, stream, bucket or header           internal/names
//	it reads or writes NATS for dispatchers or agents, or acks      internal/queue
//	a program that submits and follows jobs needs it                jetstream
//	it knows a ComfyUI path, message type or error text             internal/comfy
//	it holds a ticker or starts a goroutine for the fleet's work    internal/dispatcher, internal/agent
//	it reads a flag or the environment, or picks a default          cmd/dispatcher, cmd/agent
//	it says what a tenant's or a host's key may do in NATS          internal/access
//	it concerns logging, signals, the version, the connection       internal/daemon
//	it is none of these                                             name the new room here first
//
// # Dependencies
//
// Each one is here because writing it ourselves would be worse:
//
//	github.com/nats-io/nats.go             the NATS client; its jetstream package is imported in one room, as natsjs
//	github.com/nats-io/nats-server/v2      NATS in the process: one command is a working system, and tests need no other
//	github.com/nats-io/jwt/v2              tokens of NATS accounts: one wrong field is a hole, and the server reads them with it
//	github.com/nats-io/nkeys               the keys that sign these tokens, in the form that NATS and its tools know
//	github.com/gorilla/websocket           ComfyUI's websocket: ping control and read limits, long proven against it
//	github.com/cespare/xxhash/v2           64-bit hashes for capability sets and rendezvous: a check is a look-up
//	github.com/google/uuid                 ids of agents and inboxes, and the form of prompt ids, which ComfyUI asks for
//	github.com/prometheus/client_golang    metrics in the form that every operator's monitoring reads
//	github.com/alecthomas/kong             flags from struct tags, each with its environment variable and help
//	github.com/vbauerster/mpb/v8           a live progress line per job on a terminal
//	golang.org/x/term                      whether a person is watching: live lines or plain ones
//	golang.org/x/sync                      groups of goroutines that are waited for and whose errors are kept
//	github.com/google/go-cmp               differences that a person can read, in tests only
//	go.uber.org/goleak                     proof in tests that every goroutine was waited for
package internal
