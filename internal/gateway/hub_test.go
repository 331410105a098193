package gateway_test

import (
	"testing"

	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/gateway"
)

// Otherwise its two goroutines and its connection would stay when the gateway has ended.
func TestASocketThatComesWhileTheGatewayEndsIsClosed(t *testing.T) {
	t.Parallel()
	if code := gateway.ClosedBeforeItIsHandled(); code != websocket.CloseGoingAway {
		t.Errorf("closed with %d, want %d", code, websocket.CloseGoingAway)
	}
}
