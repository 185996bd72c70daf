#!/bin/sh
# Run inside a booted Debian by its own systemd: does to voice-agent.service what an operator and a bad day do, and writes
# what systemd says of it, one section a step.
exec >/probe.new 2>&1

show() { systemctl show voice-agent -p ActiveState -p NRestarts -p StatusText -p Result; }
pid() { systemctl show voice-agent -p MainPID --value; }
wait_for() {
    n=0
    until "$@"; do
        n=$((n + 1))
        [ $n -lt 300 ] || { echo "waited 30 s in vain: $*"; return; }
        sleep 0.1
    done
}
says() { systemctl show voice-agent -p StatusText | grep -q "$1"; }
restarted() { [ "$(systemctl show voice-agent -p NRestarts --value)" = 1 ] && systemctl is-active --quiet voice-agent; }
failed() { [ "$(systemctl is-active voice-agent)" = failed ]; }
config() { printf '[kernel]\ninterfaces = ["host0"]\nxdp = "always"\n[trip]\n%s\n' "$1" > /etc/voice-agent/config.toml; }

config 'mode = "enforce"'
ip link set host0 up
echo "== start"
systemctl start voice-agent
echo "exit $?"
wait_for says 'mode enforce'
show
voice-agent kernel status --json
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' "/proc/$(pid)/status"
echo "== reload"
config 'mode = "shadow"'
systemctl reload voice-agent
wait_for says 'mode shadow'
show
echo "== refused"
config 'mood = "enforce"'
systemctl reload voice-agent
wait_for says 'refused'
show
config 'mode = "shadow"'
echo "== hang"
kill -STOP "$(pid)"
wait_for restarted
show
echo "== mistake"
config 'mood = "enforce"'
systemctl restart voice-agent
wait_for failed
show
echo "== log"
journalctl --unit voice-agent --no-pager --output cat
mv /probe.new /probe.out
systemctl poweroff
