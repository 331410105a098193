package gateway_test

import (
	"testing"

	"github.com/comfyherd/comfyherd/internal/gateway"
)

func TestAnAnswerInPiecesIsWholeOrCannotBeTakenForWhole(t *testing.T) {
	t.Parallel()
	for failsAt, want := range map[int]struct {
		body  string
		fails bool
	}{0: {"[1,2,3]", false}, 1: {"", true}, 3: {"[1,2", false}} {
		if body, err := gateway.Pieces(failsAt); body != want.body || (err != nil) != want.fails {
			t.Errorf("with an error at %d the answer is %q, %v", failsAt, body, err)
		}
	}
}
