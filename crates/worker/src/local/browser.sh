#!/bin/sh
# Starts the browser so that all it asks of the network goes through the sidecar's proxy, or nowhere.
# Remotion tells it to use no proxy at all, and that would win.
for argument; do
    shift
    case $argument in
        --no-proxy-server | --proxy-*) ;;
        *) set -- "$@" "$argument" ;;
    esac
done
# Direct goes what Remotion itself serves. Everything else on this machine is asked of the proxy, as what is not.
exec "$LASTFRAME_BROWSER" "$@" \
    --proxy-server="http://127.0.0.1:$LASTFRAME_PROXY" \
    --proxy-bypass-list="<-loopback>;localhost:$LASTFRAME_BUNDLE_PORT" \
    --host-resolver-rules="MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1" \
    --disable-quic \
    --force-webrtc-ip-handling-policy=disable_non_proxied_udp \
    --webrtc-ip-handling-policy=disable_non_proxied_udp \
    ${LASTFRAME_DEBUGGING_PORT:+"--remote-debugging-port=$LASTFRAME_DEBUGGING_PORT"}
