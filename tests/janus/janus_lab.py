#!/usr/bin/env python3
"""janus_lab.py - real voice rooms on a real media server, for breaker tests.

Starts Debian's `janus` (AudioBridge plugin) in network namespace <ns>1, and in <ns>2 the
signalling clients and one `ffmpeg` per participant that sends real Opus RTP (speech, 20 ms
packets, PT 111).  One veth pair joins the namespaces: <ns>v1 (media node) <-> <ns>v2 (users).

  media node   10.77.0.1        RTP sockets 50000,50002,... (AudioBridge takes even ports)
  participant  10.77.R.(10+k)   R = room index from 1, k = participant from 1; source port 40000
  room id      1000+R           participant id  (1000+R)*100+k      RTP SSRC = participant id

Needs: root; Debian packages janus ffmpeg iproute2 tcpdump (python3: standard library only).

  janus_lab.py up   [--rooms 2] [--members 3] [--events-url URL]   start everything, print the mapping
  janus_lab.py map                                room -> ports as JSON (Janus admin socket)
  janus_lab.py kill-host ROOM                     SIGKILL the host's signalling AND its ffmpeg
  janus_lab.py kill-sig ROOM                      SIGKILL all signalling of the room, media stays
  janus_lab.py leave-host ROOM                    host leaves politely (AudioBridge `leave`)
  janus_lab.py stop-media ROOM [K]                SIGTERM ffmpeg of participant K (or of all)
  janus_lab.py start-media ROOM [K]               start ffmpeg again (same 5-tuple, same SSRC)
  janus_lab.py destroy ROOM                       AudioBridge `destroy` by the admin socket
  janus_lab.py watch                              print Janus events (one JSON a line) until ^C
  janus_lab.py capture FILE.pcap SECONDS          tcpdump on the media node; FILE.json = mapping
  janus_lab.py down                               stop our own processes, delete the namespaces

Everything lives in --work (default janus-lab): etc/ (config), janus.log, events.jsonl
(event handler), sig-<room>-<role>.jsonl, admin.sock (AF_UNIX SOCK_SEQPACKET), state.json.
"""
import argparse, http.server, json, os, random, signal, socket, string, subprocess, sys
import threading, time, urllib.request

ADMIN_SECRET = "lab"
SINK = "http://127.0.0.1:9099/"
NODE_IP = "10.77.0.1"
LIB = "/usr/lib/x86_64-linux-gnu/janus"
PLUGIN = "janus.plugin.audiobridge"
SPEECH = ("Welcome to the live voice room. Tonight we talk about circuit breakers, about rooms "
          "that stay live although the host has gone, and about packets that nobody hears.")


def tx():
    return "".join(random.choice(string.ascii_letters) for _ in range(10))


# ------------------------------------------------------------------ Janus interfaces
class Admin:
    """Janus Admin API over AF_UNIX SOCK_SEQPACKET: one JSON object per packet (<= 8192 in)."""

    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.s.settimeout(5)
        self.s.connect(path)

    def rq(self, janus, **kw):
        t = tx()
        self.s.send(json.dumps(dict(kw, janus=janus, transaction=t, admin_secret=ADMIN_SECRET)).encode())
        while True:
            buf = self.s.recv(1 << 20)
            if not buf:
                raise EOFError("janus closed the admin socket")
            r = json.loads(buf)
            if r.get("transaction") == t:
                return r

    def plugin(self, **body):          # synchronous AudioBridge request without a session
        r = self.rq("message_plugin", plugin=PLUGIN, request=body)
        return r.get("response", r)


class Session:
    """One Janus API session over HTTP. The long poll counts as life only when it is answered, up to 30 s apart, so a
    keepalive goes with it: then a short --session-timeout ends the killed sessions and no others."""

    def __init__(self, log):
        self.base = "http://%s:8088/janus" % NODE_IP
        self.log = log
        self.id = self.post("", {"janus": "create"})["data"]["id"]
        self.h = self.post("/%d" % self.id, {"janus": "attach", "plugin": PLUGIN})["data"]["id"]
        self.cv = threading.Condition()
        self.joined = None
        threading.Thread(target=self.poll, daemon=True).start()
        threading.Thread(target=self.keep, daemon=True).start()

    def keep(self):
        while True:
            time.sleep(1)
            try:
                self.post("/%d" % self.id, {"janus": "keepalive"}, timeout=1)   # one without an answer costs no more than itself
            except Exception as e:                              # Janus gone or stopped; it may come back
                self.log({"session": self.id, "keepalive_error": str(e)})

    def post(self, path, o, timeout=20):
        o = dict(o, transaction=tx())
        q = urllib.request.Request(self.base + path, json.dumps(o).encode(), {"Content-Type": "application/json"})
        return json.loads(urllib.request.urlopen(q, timeout=timeout).read())

    def poll(self):
        while True:
            try:
                r = json.loads(urllib.request.urlopen("%s/%d?maxev=10" % (self.base, self.id), timeout=60).read())
            except Exception as e:                              # Janus gone or session timed out
                self.log({"session": self.id, "poll_error": str(e)})
                return
            for e in r if isinstance(r, list) else [r]:
                if e.get("janus") == "keepalive":
                    continue
                self.log(e)
                d = e.get("plugindata", {}).get("data", {})
                if d.get("audiobridge") == "joined" and "rtp" in d:
                    with self.cv:
                        self.joined = d
                        self.cv.notify_all()

    def msg(self, body):
        return self.post("/%d/%d" % (self.id, self.h), {"janus": "message", "body": body})

    def join(self, room, uid, display, ip, port):
        self.msg({"request": "join", "room": room, "id": uid, "display": display, "codec": "opus",
                  "rtp": {"ip": ip, "port": port, "payload_type": 111}})
        with self.cv:
            if not self.cv.wait_for(lambda: self.joined, 10):
                raise SystemExit("join timed out")
        return self.joined["rtp"]


# ------------------------------------------------------------------ children (run inside namespaces)
def child_events(a):
    """HTTP sink for Janus' sampleevh event handler -> events.jsonl."""
    out = open(a.work + "/events.jsonl", "a", buffering=1)
    lock = threading.Lock()

    class H(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            b = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            ev = json.loads(b)
            with lock:
                for e in ev if isinstance(ev, list) else [ev]:
                    out.write(json.dumps(e) + "\n")
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *x):
            pass
    http.server.ThreadingHTTPServer(("127.0.0.1", 9099), H).serve_forever()


def child_signal(a):
    """Signalling of one room: role host = create the room and join as k=1, guests = k=2..M."""
    out = open("%s/sig-%d-%s.jsonl" % (a.work, a.room, a.role), "a", buffering=1)
    log = lambda e: out.write(json.dumps(dict(e, at=time.time())) + "\n")
    sess = []
    for k in ([1] if a.role == "host" else range(2, a.members + 1)):
        s = Session(log)
        if a.role == "host":
            s.msg({"request": "create", "room": a.room, "description": "voice room %d" % a.room,
                   "sampling_rate": 48000, "allow_rtp_participants": True})
        rtp = s.join(a.room, a.room * 100 + k, "%s-%d" % ("host" if k == 1 else "guest", k),
                     user_ip(a.room, k), 40000)
        log({"mine": {"k": k, "port": rtp["port"]}})
        sess.append(s)

    def polite(*_):
        for s in sess:
            s.msg({"request": "leave"})
            time.sleep(0.2)
            s.post("/%d" % s.id, {"janus": "destroy"})
        os._exit(0)
    signal.signal(signal.SIGTERM, polite)
    log({"ready": True})
    while True:
        signal.pause()


# ------------------------------------------------------------------ state and processes
def user_ip(room, k):
    return "10.77.%d.%d" % (room - 1000, 10 + k)


def load(a):
    return json.load(open(a.work + "/state.json"))


def save(a, st):
    json.dump(st, open(a.work + "/state.json", "w"), indent=1)


def start_time(pid):                   # field 22 of /proc/pid/stat: guards against pid reuse
    try:
        return int(open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError):
        return 0


def spawn(a, st, name, ns, argv, logfile):
    f = open("%s/%s" % (a.work, logfile), "ab")
    p = subprocess.Popen(["ip", "netns", "exec", ns] + argv, stdin=subprocess.DEVNULL, stdout=f,
                         stderr=f, start_new_session=True)         # ip execs argv: same pid
    st["procs"][name] = [p.pid, start_time(p.pid)]
    save(a, st)
    return p


def stop(st, name, sig):
    pid, t = st["procs"].get(name, [0, 0])
    if pid and t and start_time(pid) == t:
        os.kill(pid, sig)
        return pid
    return 0


def alive(st, name):
    pid, t = st["procs"].get(name, [0, 0])
    if not (pid and t and start_time(pid) == t):
        return False
    return open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()[0] != "Z"


def wait_for(what, f, seconds=15):
    end = time.time() + seconds
    while time.time() < end:
        try:
            r = f()
            if r:
                return r
        except (OSError, ValueError, EOFError):
            pass
        time.sleep(0.05)
    raise SystemExit("timeout: " + what)


def sh(*c):
    subprocess.run(c, check=True)


def ready_rows(f):
    rows = [json.loads(x) for x in open(f)]
    return rows if any("ready" in x for x in rows) else None


# ------------------------------------------------------------------ verbs
def config(a):
    e = a.work + "/etc"
    os.makedirs(e, exist_ok=True)
    keep = {"plugins": ["libjanus_audiobridge.so"], "events": ["libjanus_sampleevh.so"],
            "transports": ["libjanus_http.so", "libjanus_pfunix.so", "libjanus_websockets.so"]}
    off = {k: ",".join(sorted(f for f in os.listdir("%s/%s" % (LIB, k)) if f.endswith(".so") and f not in v))
           for k, v in keep.items()}

    def w(name, text):
        open("%s/%s.jcfg" % (e, name), "w").write(text)
    w("janus", f"""general: {{
  configs_folder = "{e}"; plugins_folder = "{LIB}/plugins"; transports_folder = "{LIB}/transports"
  events_folder = "{LIB}/events"; loggers_folder = "{LIB}/loggers"
  debug_level = 4; debug_timestamps = true; debug_colors = false
  admin_secret = "{ADMIN_SECRET}"; server_name = "media-node-1"
  interface = "{NODE_IP}"; session_timeout = {a.session_timeout}
}}
media: {{ rtp_port_range = "50000-60000"; no_media_timer = 1; }}
nat: {{ ice_lite = true; ice_enforce_list = "10.77."; }}
plugins: {{ disable = "{off['plugins']}" }}
transports: {{ disable = "{off['transports']}" }}
events: {{ broadcast = true; stats_period = 1; combine_media_stats = true; disable = "{off['events']}" }}
""")
    w("janus.plugin.audiobridge", f'general: {{ rtp_port_range = "50000-60000"; local_ip = "{NODE_IP}"; }}\n')
    w("janus.transport.http", 'general: { json = "compact"; http = true; port = 8088; https = false; ip = "0.0.0.0"; }\n'
      'admin: { admin_http = true; admin_port = 7088; admin_ip = "127.0.0.1"; admin_https = false; }\n')
    w("janus.transport.websockets", f'general: {{ ws = true; ws_port = 8188; ws_ip = "{NODE_IP}"; wss = false; }}\n'
      'admin: { admin_ws = false; }\n')
    w("janus.transport.pfunix", f'general: {{ enabled = true; json = "compact"; path = "{a.work}/api.sock"; }}\n'
      f'admin: {{ admin_enabled = true; admin_path = "{a.work}/admin.sock"; }}\n')
    w("janus.eventhandler.sampleevh", 'general: { enabled = true; events = "sessions,handles,webrtc,media,plugins,core"; '
      'grouping = true; json = "compact"; backend = "%s"; }\n' % a.events_url)


def media(a, st, room, k, port):
    spawn(a, st, "media-%d-%d" % (room, k), a.ns + "2",
          ["ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-re", "-stream_loop", "-1",
           "-i", "%s/voice%d.mka" % (a.work, k % 4), "-c", "copy", "-f", "rtp", "-payload_type", "111",
           "-ssrc", str(room * 100 + k),
           # localrtcpport: RTCP sender reports go to the odd port +1, where AudioBridge has no socket
           "rtp://%s:%d?localaddr=%s&localrtpport=40000&localrtcpport=40001&pkt_size=1200"
           % (NODE_IP, port, user_ip(room, k))], "ffmpeg.log")


def start_janus(a, st, ns):
    """Janus 1.1.2 has a race at start: the thread of its unix sockets may look for `initialized` before that is set, and
    ends at once ("Unix Sockets thread ended"). Then the admin socket is deaf for ever: start again."""
    log = a.work + "/janus.log"

    def settled():
        if "Unix Sockets thread ended" in open(log, errors="replace").read():
            return "deaf"
        return "up" if Admin(a.work + "/admin.sock").rq("ping")["janus"] == "pong" else ""
    for attempt in range(5):
        open(log, "w").close()
        p = spawn(a, st, "janus", ns, ["janus", "-F", a.work + "/etc"], "janus.log")
        if wait_for("janus admin socket", settled) == "up":
            return
        print("janus lost its unix sockets at start: starting it again", file=sys.stderr)
        p.kill()
        p.wait()
    raise SystemExit("janus lost its unix sockets at each of 5 starts")


def up(a):
    t0 = time.time()
    if os.path.exists(a.work + "/state.json"):
        raise SystemExit("already up (or not torn down): run `down` first")
    os.makedirs(a.work, exist_ok=True)
    for f in os.listdir(a.work):
        if f.endswith((".jsonl", ".log", ".sock")):
            os.unlink(a.work + "/" + f)
    n1, n2 = a.ns + "1", a.ns + "2"
    have = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout.split()
    if n1 in have or n2 in have:
        raise SystemExit("namespace %s or %s already exists: not ours, pick another --ns" % (n1, n2))
    st = {"ns": a.ns, "rooms": a.rooms, "members": a.members, "procs": {}, "ports": {}}
    save(a, st)
    for i, v in enumerate(["0.8", "0.9", "1.1", "1.25"]):          # four voices of different pitch
        if not os.path.exists("%s/voice%d.mka" % (a.work, i)):
            sh("ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-f", "lavfi", "-i",
               "flite=text='%s':voice=slt" % SPEECH.replace(",", "\\,"),
               "-af", "aresample=48000,asetrate=48000*%s,aresample=48000" % v, "-ac", "2", "-c:a", "libopus",
               "-application", "voip", "-frame_duration", "20", "-b:a", "32k", "%s/voice%d.mka" % (a.work, i))
    sh("ip", "netns", "add", n1)
    sh("ip", "netns", "add", n2)
    sh("ip", "link", "add", a.ns + "v1", "netns", n1, "type", "veth", "peer", "name", a.ns + "v2", "netns", n2)
    cmds = {n1: ["addr add %s/16 dev %sv1" % (NODE_IP, a.ns), "link set lo up", "link set %sv1 up" % a.ns],
            n2: ["addr add 10.77.0.2/16 dev %sv2" % a.ns, "link set lo up", "link set %sv2 up" % a.ns]}
    for r in range(1, a.rooms + 1):
        for k in range(1, a.members + 1):
            cmds[n2].append("addr add %s/32 dev %sv2" % (user_ip(1000 + r, k), a.ns))
    for n, c in cmds.items():
        subprocess.run(["ip", "-n", n, "-batch", "-"], input="\n".join(c) + "\n", text=True, check=True)
    config(a)
    me = [sys.executable, os.path.abspath(__file__), "--work", a.work, "--ns", a.ns]
    spawn(a, st, "events", n1, me + ["_events"], "events.log")
    time.sleep(0.3)
    start_janus(a, st, n1)
    t1 = time.time()
    for r in range(1001, 1001 + a.rooms):
        for role in ("host", "guests"):                             # the host makes the room first
            spawn(a, st, "sig-%d-%s" % (r, role), n2,
                  me + ["_signal", "--room", str(r), "--role", role, "--members", str(a.members)], "signal.log")
            f = "%s/sig-%d-%s.jsonl" % (a.work, r, role)
            rows = wait_for("join " + f, lambda: ready_rows(f))
            for m in (x["mine"] for x in rows if "mine" in x):
                st["ports"]["%d-%d" % (r, m["k"])] = m["port"]
                media(a, st, r, m["k"], m["port"])
    wait_for("media at Janus", lambda: all(p.get("remote_ssrc") for x in mapping(a)["rooms"] for p in x["participants"]), 20)
    m = mapping(a)
    m["started_s"] = {"janus": round(t1 - t0, 2), "all": round(time.time() - t0, 2)}
    print(json.dumps(m, indent=1))


def mapping(a):
    """What an outside agent can learn: list_sessions -> list_handles -> handle_info."""
    ad = Admin(a.work + "/admin.sock")
    t = time.time()
    n = 0
    rooms = {x["room"]: {"room": x["room"], "description": x["description"],
                         "num_participants": x["num_participants"], "participants": []}
             for x in ad.plugin(request="list").get("list", [])}
    for sid in ad.rq("list_sessions").get("sessions", []):
        for hid in ad.rq("list_handles", session_id=sid).get("handles", []):
            n += 1
            i = ad.rq("handle_info", session_id=sid, handle_id=hid).get("info", {})
            p = i.get("plugin_specific", {})
            if p.get("state") != "inroom" or p.get("room") not in rooms:
                continue
            x = p.get("plain-rtp", {})
            idle = (i["current_time"] - i["session_last_activity"]) / 1e6
            rooms[p["room"]]["participants"].append({
                "id": p["id"], "display": p.get("display"), "session_id": sid, "handle_id": hid,
                "signalling_idle_s": round(idle, 1), "started": p.get("started"), "active": p.get("active"),
                "local": "%s:%s" % (x.get("local-ip"), x.get("local-port")), "local_port": x.get("local-port"),
                "remote": "%s:%s" % (x.get("remote-ip"), x.get("remote-port")),
                "remote_ssrc": x.get("remote-ssrc"),
                # Janus 1.1.2 (and master 2026-04) report local-ssrc byte-swapped: undo it.  The mix
                # towards every participant of a room carries this one SSRC.
                "local_ssrc": socket.ntohl(x["local-ssrc"]) if "local-ssrc" in x else None})
    for r in rooms.values():
        r["participants"].sort(key=lambda p: p["id"])
    return {"node": NODE_IP, "at": time.time(), "handles": n, "took_ms": round((time.time() - t) * 1e3, 1),
            "rooms": sorted(rooms.values(), key=lambda r: r["room"])}


def down(a):
    try:
        st = load(a)
    except OSError:
        print("nothing to tear down in " + a.work)
        return
    names = sorted(st["procs"], key=lambda n: (n == "events", n == "janus", not n.startswith("media")))
    for n in names:
        if n.startswith("sig-"):
            stop(st, n, signal.SIGKILL)
        else:
            stop(st, n, signal.SIGTERM)
            if n == "janus":
                time.sleep(0.5)
    end = time.time() + 5
    while time.time() < end and any(alive(st, n) for n in names):
        time.sleep(0.1)
    for n in names:
        stop(st, n, signal.SIGKILL)
    for n in (st["ns"] + "1", st["ns"] + "2"):
        if os.path.exists("/run/netns/" + n):
            sh("ip", "netns", "del", n)
    os.unlink(a.work + "/state.json")
    print("down")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", default="janus-lab")
    p.add_argument("--ns", default="hs")
    s = p.add_subparsers(dest="verb", required=True)
    u = s.add_parser("up")
    u.add_argument("--rooms", type=int, default=2)
    u.add_argument("--members", type=int, default=3)
    u.add_argument("--session-timeout", type=int, default=60)
    u.add_argument("--events-url", default=SINK, help="where Janus posts its events (default: a sink that fills events.jsonl)")
    for v in ("map", "down", "watch", "_events"):
        s.add_parser(v)
    for v in ("kill-host", "kill-sig", "leave-host", "destroy"):
        s.add_parser(v).add_argument("room", type=int)
    for v in ("stop-media", "start-media"):
        q = s.add_parser(v)
        q.add_argument("room", type=int)
        q.add_argument("k", type=int, nargs="?")
    q = s.add_parser("capture")
    q.add_argument("file")
    q.add_argument("seconds", type=int)
    q = s.add_parser("_signal")
    q.add_argument("--room", type=int)
    q.add_argument("--role")
    q.add_argument("--members", type=int)
    a = p.parse_args()
    a.work = os.path.abspath(a.work)
    if a.verb == "up":
        up(a)
    elif a.verb == "down":
        down(a)
    elif a.verb == "map":
        print(json.dumps(mapping(a), indent=1))
    elif a.verb == "watch":
        os.execvp("tail", ["tail", "-n", "+1", "-F", a.work + "/events.jsonl"])
    elif a.verb == "capture":
        with open(os.path.splitext(a.file)[0] + ".json", "w") as f:
            json.dump(mapping(a), f, indent=1)
        subprocess.run(["ip", "netns", "exec", a.ns + "1", "timeout", "-s", "INT", str(a.seconds), "tcpdump", "-Z",
                        "root", "-q", "-i", a.ns + "v1", "-w", a.file, "udp portrange 50000-60000 or icmp"])
    elif a.verb == "_events":
        child_events(a)
    elif a.verb == "_signal":
        child_signal(a)
    elif a.verb == "destroy":
        print(json.dumps(Admin(a.work + "/admin.sock").plugin(request="destroy", room=a.room)))
    else:
        st = load(a)
        ks = [a.k] if getattr(a, "k", None) else range(1, st["members"] + 1)
        if a.verb == "kill-host":
            print("signalling pid", stop(st, "sig-%d-host" % a.room, signal.SIGKILL),
                  "media pid", stop(st, "media-%d-1" % a.room, signal.SIGKILL))
        elif a.verb == "kill-sig":
            print("pids", [stop(st, "sig-%d-%s" % (a.room, r), signal.SIGKILL) for r in ("host", "guests")])
        elif a.verb == "leave-host":
            print("pid", stop(st, "sig-%d-host" % a.room, signal.SIGTERM))
        elif a.verb == "stop-media":
            print("pids", [stop(st, "media-%d-%d" % (a.room, k), signal.SIGTERM) for k in ks])
        elif a.verb == "start-media":
            for k in ks:
                media(a, st, a.room, k, st["ports"]["%d-%d" % (a.room, k)])


if __name__ == "__main__":
    main()
