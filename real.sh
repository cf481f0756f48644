hostname node-1
mount -t tmpfs none /var/log; mount -t tmpfs none /run
touch /var/log/wtmp /var/log/btmp /run/utmp; mkdir -p /run/lock
date
(sleep 1; printf 'mallory\n'; sleep 1; printf 'wrong\n'; sleep 4; printf '\003') | timeout 12 script -qc "login -h 203.0.113.9" /dev/null
ls -l /var/log /run/utmp
timeout 8 script -qc "login -f root -h 203.0.113.9" /dev/null <<< 'exit'
utmpdump /var/log/wtmp; utmpdump /var/log/btmp; utmpdump /run/utmp
cp /var/log/wtmp /tmp/mk/login.wtmp; cp /var/log/btmp /tmp/mk/login.btmp
