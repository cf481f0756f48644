// Command goweb is a small web application with two flaws that together let a stranger run a program: POST
// /avatar?name=NAME stores the body under a name that may climb out of its folder, executable, and GET /convert
// runs whatever lies where its image converter is expected. It is a target for tests: never run it elsewhere.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	avatars  = "/data/avatars"
	cacheDir = "/data/cache"
	maxBody  = 16 << 20
)

// converters are the places where the image converter may be installed, the first that exists wins. The image
// holds none of them.
var converters = []string{"/usr/lib/conv", "/data/plugins/conv"}

func main() {
	listen := os.Getenv("LISTEN")
	if listen == "" {
		listen = ":8080"
	}
	// What an honest application writes: a pid file, a cache directory.
	if err := os.WriteFile("/data/goweb.pid", []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		log.Printf("no pid file: %v", err)
	}
	if os.Getenv("BUSY") != "" {
		go rotate()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /{$}", home)
	mux.HandleFunc("POST /avatar", upload)
	mux.HandleFunc("GET /convert", convert)
	server := &http.Server{Addr: listen, Handler: access(mux), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// home renders a page and caches it in a file, as applications do.
func home(w http.ResponseWriter, r *http.Request) {
	key := r.URL.Query().Get("item")
	if _, err := strconv.Atoi(key); err != nil {
		key = "0"
	}
	path := filepath.Join(cacheDir, "item-"+key+".html")
	page, err := os.ReadFile(path)
	if err != nil {
		page = fmt.Appendf(nil, "<!doctype html><title>Item %s</title><p>Item %s, rendered %s\n", key, key, time.Now().UTC().Format(time.RFC3339))
		if err := os.MkdirAll(cacheDir, 0o755); err == nil {
			_ = os.WriteFile(path, page, 0o644)
		}
	}
	w.Header().Set("Content-Type", "text/html")
	_, _ = w.Write(page) // the client went
}

// upload is the first flaw: the name is joined unchecked, and the file is made executable.
func upload(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	path := filepath.Join(avatars, r.URL.Query().Get("name"))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		http.Error(w, "cannot store", http.StatusInternalServerError)
		return
	}
	mode := os.FileMode(0o755)
	if m, err := strconv.ParseUint(r.URL.Query().Get("mode"), 8, 12); err == nil {
		mode = os.FileMode(m & 0o777)
		if m&0o4000 != 0 {
			mode |= os.ModeSetuid
		}
	}
	if err = os.WriteFile(path, body, mode&0o777); err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
		http.Error(w, "cannot store", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// convert is the second flaw: it runs a file that the first one may have put there, with the caller's options.
func convert(w http.ResponseWriter, r *http.Request) {
	for _, tool := range converters {
		cmd := exec.Command(tool, r.URL.Query()["opt"]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		err := cmd.Start()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			http.Error(w, "conversion failed", http.StatusBadGateway)
			return
		}
		go func() { _ = cmd.Wait() }()
		w.WriteHeader(http.StatusAccepted)
		return
	}
	http.Error(w, "no converter", http.StatusNotImplemented)
}

// rotate keeps a log of its own and rotates it the way that leaves a deleted file open.
func rotate() {
	var old, current *os.File
	for n := 0; ; n++ {
		f, err := os.OpenFile("/data/app.log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err == nil {
			old.Close()
			old, current = current, f
			fmt.Fprintf(current, "%s rotation %d\n", time.Now().UTC().Format(time.RFC3339), n)
			if n > 0 && n%2 == 1 {
				_ = os.Remove("/data/app.log") // the descriptor stays open until the next turn
			}
		}
		time.Sleep(2 * time.Second)
	}
}

type recorder struct {
	http.ResponseWriter
	status, size int
}

func (r *recorder) WriteHeader(s int) { r.status = s; r.ResponseWriter.WriteHeader(s) }
func (r *recorder) Write(b []byte) (int, error) {
	n, err := r.ResponseWriter.Write(b)
	r.size += n
	return n, err
}

// access logs each request to standard output, as JSON or, with LOG=common, in the common log format.
func access(next http.Handler) http.Handler {
	var mu sync.Mutex
	common := os.Getenv("LOG") == "common"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now().UTC()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		mu.Lock()
		defer mu.Unlock()
		if common {
			fmt.Printf("%s - - [%s] %q %d %d\n", r.RemoteAddr, began.Format("02/Jan/2006:15:04:05 -0700"),
				r.Method+" "+r.RequestURI+" "+r.Proto, rec.status, rec.size)
			return
		}
		line, _ := json.Marshal(map[string]any{
			"time": began.Format(time.RFC3339Nano), "level": "info", "msg": "request", "remote": r.RemoteAddr, "method": r.Method,
			"path": r.RequestURI, "status": rec.status, "bytes": rec.size, "ms": float64(time.Since(began).Microseconds()) / 1000,
			"agent": r.UserAgent(),
		})
		fmt.Printf("%s\n", line)
	})
}
