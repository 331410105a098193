package queue_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// capabilityOf is a stored capability of one value.
func capabilityOf(value int) queue.Entry {
	return queue.Entry{Phase: queue.Put, Key: "gpu", Value: binary.LittleEndian.AppendUint64([]byte("cap\x01"), uint64(value))}
}

func TestACapabilityThatManyHostsHaveIsDecodedOnce(t *testing.T) {
	t.Parallel()
	decoded := 0
	read := queue.SharingCopies(func(e queue.Entry) (workflow.Capability, error) {
		decoded++
		return queue.CapabilityOf(e)
	})
	expect := func(value, want int) {
		t.Helper()
		c, err := read(capabilityOf(value))
		data, _ := c.MarshalBinary()
		if err != nil || string(data) != string(capabilityOf(value).Value) {
			t.Errorf("%d was read as %q, %v", value, data, err)
		}
		if decoded != want {
			t.Errorf("%d were decoded, want %d", decoded, want)
		}
	}
	expect(1, 1)
	expect(1, 1)
	for value := 2; value <= 64; value++ {
		expect(value, value)
	}
	expect(1, 64) // the oldest of those that are kept
	expect(65, 65)
	expect(2, 65)
	expect(1, 66) // not kept any more
}

func TestACapabilityThatIsNotValidIsReadAnewEachTime(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	decoded := 0
	read := queue.SharingCopies(func(queue.Entry) (workflow.Capability, error) {
		decoded++
		return workflow.Capability{}, broken
	})
	for range 2 {
		if _, err := read(capabilityOf(1)); !errors.Is(err, broken) {
			t.Errorf("it was read: %v", err)
		}
	}
	if decoded != 2 {
		t.Errorf("%d were read, want 2", decoded)
	}
}
