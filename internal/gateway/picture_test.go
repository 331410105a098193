package gateway_test

import (
	"testing"

	"github.com/comfyherd/comfyherd/internal/gateway"
)

// A small file may become a picture of several hundred MB, and a client may send many requests at a time.
func TestTwoPicturesAreDecodedAtATime(t *testing.T) {
	t.Parallel()
	if gateway.DecodesBeside(2) {
		t.Error("a third picture was decoded beside two others")
	}
}
