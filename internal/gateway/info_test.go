package gateway_test

import (
	"testing"

	"github.com/comfyherd/comfyherd/internal/gateway"
)

func TestADeviceThatIsNoGPUIsNotShownAsOne(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"cpu": "cpu", "mps": "mps", "NVIDIA GeForce RTX 4090": "cuda", "": "cuda"} {
		if got := gateway.DeviceType(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}
