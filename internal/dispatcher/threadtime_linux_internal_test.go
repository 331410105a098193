package dispatcher

import (
	"syscall"
	"time"
	"unsafe"
)

// threadTime is how much CPU time a thread has used.
type threadTime struct {
	thread int
	used   time.Duration
}

// threadTimeNow is that of the thread which runs the calling goroutine.
func threadTimeNow() threadTime {
	const threadClock = 3 // CLOCK_THREAD_CPUTIME_ID
	var used syscall.Timespec
	if _, _, failed := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, threadClock, uintptr(unsafe.Pointer(&used)), 0); failed != 0 {
		return threadTime{}
	}
	return threadTime{syscall.Gettid(), time.Duration(used.Nano())}
}

// since is what was used since an earlier time; false when another thread went on, or the system does not say it.
func (t threadTime) since(earlier threadTime) (time.Duration, bool) {
	return t.used - earlier.used, t.thread != 0 && t.thread == earlier.thread
}
