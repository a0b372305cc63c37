// Three goroutines that take one lock in turn; writes Go's own mutex and block profiles into the folder it is given.
package main

import (
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"
)

var lock sync.Mutex

func hold() {
	for i := 0; i < 20; i++ {
		lock.Lock()
		time.Sleep(2 * time.Millisecond)
		lock.Unlock()
	}
}

func main() {
	runtime.SetMutexProfileFraction(1)
	runtime.SetBlockProfileRate(1)
	var group sync.WaitGroup
	for i := 0; i < 3; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			hold()
		}()
	}
	group.Wait()
	for _, name := range []string{"mutex", "block"} {
		file, err := os.Create(os.Args[1] + "/" + name + ".pprof")
		if err != nil {
			panic(err)
		}
		if err := pprof.Lookup(name).WriteTo(file, 0); err != nil {
			panic(err)
		}
		file.Close()
	}
}
