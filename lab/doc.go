// Package lab brings up real container runtimes on roots and sockets of its own, builds distroless images the
// way the well-known ones are made, runs vulnerable applications in them and really attacks these. What each
// attack did is known, so that a test can hold a verdict against the truth. Nothing here is part of the
// product; all traffic stays on loopback or on a bridge that the lab makes and takes away again.
package lab
