package natsproc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has used of the machine, on Linux; on other systems it is all 0.
type Usage struct {
	Processor time.Duration // since it began, in hundredths of a second
	Memory    int64         // held now, in bytes
	Peak      int64         // the most that it held
	Written   int64         // bytes that it had written to a disk since it began
}

// UsageOf reads what a process has used.
func UsageOf(pid int) Usage {
	return Usage{
		Processor: processor(pid),
		Memory:    field(pid, "status", "VmRSS:") << 10,
		Peak:      field(pid, "status", "VmHWM:") << 10,
		Written:   field(pid, "io", "\nwrite_bytes:"),
	}
}

// field returns the number behind a name in one of a process's files.
func field(pid int, file, name string) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	_, line, _ := strings.Cut(string(text), name)
	fields := strings.Fields(line)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[0], 10, 64)
	return n
}

func processor(pid int) time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, line, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(line)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
