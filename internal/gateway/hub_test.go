package gateway_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// Otherwise its two goroutines and its connection would stay when the gateway has ended.
func TestASocketThatComesWhileTheGatewayEndsIsClosed(t *testing.T) {
	t.Parallel()
	if code := gateway.ClosedBeforeItIsHandled(); code != websocket.CloseGoingAway {
		t.Errorf("closed with %d, want %d", code, websocket.CloseGoingAway)
	}
}

func TestFramesOfUnknownJobsTakeBoundedRoomAndLeaveSomeToNewJobs(t *testing.T) {
	t.Parallel()
	picture := make([]byte, 1<<20)
	var frames []queue.Frame
	for n := range 100 {
		for range 10 {
			frames = append(frames, queue.Frame{Job: job.ID(fmt.Sprintf("unknown-%d", n)), Attempt: 1, Number: 1, Binary: true, Data: picture})
		}
	}
	frames = append(frames, queue.Frame{Job: "new", Attempt: 1, Number: 1, Data: []byte("{}")})
	kept, jobs := gateway.EarlyFrames(frames)
	if kept > 64<<20 || !slices.Contains(jobs, "new") {
		t.Errorf("kept are %d bytes of %v", kept, jobs)
	}
}

func TestAGatewayEndsAfterItsSockets(t *testing.T) {
	t.Parallel()
	if gateway.EndsBeforeItsSockets() {
		t.Error("the gateway has ended before a websocket was closed")
	}
}
