package applog

// rankRemote is the last rank of names that surely are a peer's address.
const rankRemote = 3

// classify says what a field is by its folded name and where it stands. Of several fields for a slot the one with the lowest rank is
// taken; 0 is none.
func classify(p place, key []byte) (slot, uint8) {
	switch p {
	case inRequest, inResponse:
		if s, rank := ofRequest(key); s != noSlot {
			return s, rank
		}
		return noSlot, 0
	case inHeaders:
		switch string(key) {
		case "useragent":
			return slotAgent, 2
		case "referer", "referrer":
			return slotReferer, 2
		case "host":
			return slotAuthority, 3
		case "xforwardedfor":
			return slotForwarded, 1
		}
		return noSlot, 0
	case inSource:
		switch string(key) {
		case "ip", "address":
			return slotRemote, 1
		case "port":
			return slotPort, 1
		}
		return noSlot, 0
	case inURL:
		switch string(key) {
		case "original":
			return slotPath, 2
		case "path", "pathname":
			return slotPath, 3
		case "full", "href":
			return slotPath, 4
		case "domain", "host":
			return slotAuthority, 2
		}
		return noSlot, 0
	case inAgent:
		if string(key) == "original" {
			return slotAgent, 1
		}
		return noSlot, 0
	}
	return ofLine(p, key)
}

// ofLine are the fields of a log's line, and of the objects that say something of its writer.
func ofLine(p place, key []byte) (slot, uint8) {
	switch p {
	case inLog:
		switch string(key) {
		case "level":
			return slotLevel, 1
		case "logger":
			return slotLogger, 1
		case "name":
			return slotCaller, 2
		}
		return noSlot, 0
	case inProcess:
		if string(key) == "pid" {
			return slotPID, 1
		}
		return noSlot, 0
	case inThread:
		if string(key) == "name" {
			return slotThread, 2
		}
		return noSlot, 0
	case inUser:
		switch string(key) {
		case "name", "username":
			return slotUser, 1
		case "id", "email":
			return slotUser, 3
		}
		return noSlot, 0
	case inHost:
		switch string(key) {
		case "name", "hostname":
			return slotHost, 1
		}
		return noSlot, 0
	case inError:
		switch string(key) {
		case "message", "msg":
			return slotError, 2
		case "type", "class", "name", "exceptionclass":
			return slotErrorType, 2
		case "stacktrace", "stack", "backtrace", "trace", "extendedstacktrace":
			return slotStack, 1
		}
		return noSlot, 0
	case inTrace:
		if string(key) == "id" {
			return slotTrace, 2
		}
		return noSlot, 0
	}
	return ofRoot(key)
}

// ofRoot are the names of the common loggers.
func ofRoot(key []byte) (slot, uint8) {
	switch string(key) {
	case "timestamp": // also @timestamp
		return slotTime, 1
	case "time", "starttime":
		return slotTime, 2
	case "ts", "eventtime":
		return slotTime, 3
	case "datetime", "asctime", "instant", "timemillis", "timeunixnano":
		return slotTime, 4
	case "date", "t":
		return slotTime, 5
	case "level", "loglevel":
		return slotLevel, 1
	case "severity", "severitytext", "levelname":
		return slotLevel, 2
	case "lvl", "l":
		return slotLevel, 3
	case "levelvalue", "levelno", "severitynumber":
		return dropped, 0
	case "msg", "message", "renderedmessage":
		return slotMessage, 1
	case "event", "m", "textpayload":
		return slotMessage, 2
	case "mt", "messagetemplate":
		return slotMessage, 3
	case "log", "body", "text":
		return slotMessage, 4
	case "logger", "loggername", "category", "sourcecontext", "log.logger":
		return slotLogger, 1
	case "component", "module":
		return slotLogger, 3
	case "name":
		return slotLogger, 4
	case "caller", "source", "file":
		return slotCaller, 2
	case "thread", "threadname":
		return slotThread, 1
	case "pid", "processid":
		return slotPID, 2
	case "hostname", "host":
		return slotHost, 2
	case "user", "username", "login", "principal":
		return slotUser, 2
	case "error", "err", "exception", "x", "errormessage", "excinfo":
		return slotError, 1
	case "stack", "stacktrace":
		return slotStack, 2
	case "traceid", "correlationid", "requestid", "reqid", "xrequestid":
		return slotTrace, 3
	}
	return ofRequest(key)
}

// ofRequest are the names that loggers give to the parts of a request.
func ofRequest(key []byte) (slot, uint8) {
	switch string(key) {
	case "method", "httpmethod", "requestmethod", "verb":
		return slotMethod, 2
	case "path", "uri", "requesturi", "requestpath", "xenvoyoriginalpath":
		return slotPath, 2
	case "url", "requesturl", "target", "originalurl":
		return slotPath, 3
	case "status", "statuscode", "responsecode", "downstreamstatus":
		return slotStatus, 2
	case "code", "originstatus":
		return slotStatus, 3
	case "remoteip", "clientip", "sourceip", "srcip", "clienthost", "downstreamremoteaddress":
		return slotRemote, 1
	case "remoteaddr", "remoteaddress", "clientaddr":
		return slotRemote, 2
	case "remote", "client", "ip", "peer", "peeraddress":
		return slotRemote, 3
	case "addr", "fwd":
		return slotRemote, 4
	case "remoteport", "clientport":
		return slotPort, 2
	case "useragent", "agent", "httpuseragent", "ua":
		return slotAgent, 2
	case "referer", "referrer", "httpreferer":
		return slotReferer, 2
	case "bytes", "bytessent", "bodybytessent", "responsesize", "bytesout", "downstreamcontentsize":
		return slotBytes, 2
	case "size":
		return slotBytes, 3
	case "authority", "requesthost", "httphost":
		return slotAuthority, 2
	case "xforwardedfor", "forwardedfor", "httpxforwardedfor":
		return slotForwarded, 2
	case "upstreamhost", "upstreamaddr", "serviceaddr":
		return slotUpstream, 2
	}
	return noSlot, 0
}
