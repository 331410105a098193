package dispatcher_test

import (
	"testing"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
)

func TestWalksOfOneIdFollowEachOther(t *testing.T) {
	t.Parallel()
	turns := dispatcher.NewWalkOrder()
	first, endFirst := turns.Enter("acme", "a")
	other, endOther := turns.Enter("bolt", "a")
	if first != nil || other != nil {
		t.Error("the first walk of an id has to wait")
	}
	second, endSecond := turns.Enter("acme", "a")
	third, endThird := turns.Enter("acme", "a")
	over := func(before <-chan struct{}) bool {
		select {
		case <-before:
			return true
		default:
			return false
		}
	}
	if over(second) || over(third) {
		t.Error("a walk does not wait for the one before it")
	}
	endFirst()
	if !over(second) || over(third) {
		t.Error("when the first is over it is not the turn of the second alone")
	}
	endSecond()
	if !over(third) {
		t.Error("the third still waits")
	}
	endThird()
	endOther()
	if again, _ := turns.Enter("acme", "a"); again != nil || turns.Len() != 1 {
		t.Errorf("what is over is kept: %d ids have a walk", turns.Len()-1)
	}
}
