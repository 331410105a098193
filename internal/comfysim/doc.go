// Package comfysim is a simulated ComfyUI over a real socket: the HTTP routes, websocket messages, validation results
// and failure behaviour of ComfyUI 0.33.0 as measured, without Python, models or a GPU. It guarantees the order of
// messages of real runs (normal, cached, failed, interrupted), real files (decodable PNG, WEBP, GIF), exact 64-bit
// numbers, and that every picture's colour follows from the graph that made it (Picture), so that a test can check which
// job made a picture.
//
// A Server is one address. Behind it any number of processes follow one another: Kill drops connections and forgets queue,
// history, counter and cache; Restart brings an empty process up on the same address. Output and input files survive,
// as on a disk. Freeze behaves like SIGSTOP. An idle server costs a few parked goroutines and no timer.
//
// Faults are declarative (Fault): which jobs or requests they apply to, how often, and what happens. They can be set in
// Config, with AddFault, or over HTTP. These routes are simulation only; no ComfyUI has them:
//
//	GET  /sim/runs            every execution, as JSON ([]Run)
//	GET  /sim/faults          the faults in force
//	POST /sim/faults          a JSON list of Fault to add
//	POST /sim/clear           remove all faults
//	POST /sim/die             die like kill -9; ?restart=5s comes back after that time
//	POST /sim/freeze          freeze like SIGSTOP; ?for=2s thaws after that time
//	POST /sim/fill            the disk is full: nodes that save raise, uploads are answered with HTTP 500
//	POST /sim/room            the disk has room again
//
// Nodes whose names begin with Sim are simulation only too: SimSleep (seconds, steps: progress ticks; with steps 0 an
// interrupt waits for the next node), SimRaise (kind: an exception), SimText, SimPrint (writes to the log), SimBlock (an
// ExecutionBlocker), SimMesh, SimPreview3D (shows its file as a plain path), SimUnserialisable (an output that JSON cannot
// hold). SimSleep and KSampler are the timed nodes.
//
// Files: server.go (life cycle), process.go (what a kill forgets), gate.go (freezing), backlog.go and history.go (state),
// hub.go and socket.go (websocket), routes.go, submit.go, control.go, jobs.go, files.go, sim.go (HTTP), graph.go,
// catalog.go, check.go, coerce.go and lenient.go (validation), worker.go, execution.go, order.go, cache.go, nodes.go and block.go (running),
// picture.go, media.go and store.go (files), exception.go and fault.go (failures), runs.go (what tests read).
package comfysim
