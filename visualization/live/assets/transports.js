// Messages between the page and Python, over a websocket or a notebook's widget.

/** Pack a header and buffers as one frame: see visualization/live/messages.py. */
function packFrame(header, buffers) {
  const text = new TextEncoder().encode(
    JSON.stringify({ ...header, buffers: buffers.map((buffer) => buffer.byteLength) }));
  const size = buffers.reduce((sum, buffer) => sum + buffer.byteLength, 4 + text.length);
  const frame = new Uint8Array(size);
  new DataView(frame.buffer).setUint32(0, text.length, true);
  frame.set(text, 4);
  let begin = 4 + text.length;
  for (const buffer of buffers) {
    frame.set(new Uint8Array(buffer.buffer ?? buffer, buffer.byteOffset ?? 0, buffer.byteLength), begin);
    begin += buffer.byteLength;
  }
  return frame;
}

function unpackFrame(content) {
  const length = new DataView(content).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(content, 4, length)));
  let begin = 4 + length;
  const buffers = header.buffers.map((size) => {
    const buffer = new Uint8Array(content, begin, size);
    begin += size;
    return buffer;
  });
  return { header, buffers };
}

/** Client of a session: `ask` sends a message and gives its reply; errors are thrown. */
class Client {
  constructor() {
    this.waiting = new Map();
    this.number = Math.floor(Math.random() * 2 ** 51); // several views of a widget hear all replies
    this.onstate = () => {};
    this.close = () => {};
    this.send = () => { throw new Error("not connected"); };
  }

  ask(panel, call, values = {}, buffers = []) {
    const id = (this.number += 1);
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      try {
        this.send({ ...values, id, ...(panel ? { panel, call } : {}) }, buffers);
      } catch (error) {
        this.waiting.delete(id);
        reject(error);
      }
    });
  }

  receive(header, buffers) {
    const waiting = this.waiting.get(header.id);
    if (!waiting) return;
    this.waiting.delete(header.id);
    if (header.error) waiting.reject(new Error(header.error));
    else waiting.resolve({ ...header, buffers });
  }

  /** Give up all that is waited for: the connection is closed. */
  drop(reason) {
    for (const { reject } of this.waiting.values()) reject(new Error(reason));
    this.waiting.clear();
  }
}

/** Connect to the server, and again when the connection is lost. */
function connect(address) {
  const client = new Client();
  const url = new URL(address);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  let pause = 250;
  const open = () => {
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      pause = 250;
      client.close = () => socket.close();
      client.send = (header, buffers) => socket.send(packFrame(header, buffers));
      client.onstate("open");
    };
    socket.onmessage = ({ data }) => {
      const { header, buffers } = unpackFrame(data);
      client.receive(header, buffers);
    };
    socket.onclose = ({ code, reason }) => {
      client.send = () => { throw new Error("the connection is closed"); };
      client.drop("the connection was closed");
      if (code === 4403) {
        client.onstate("refused", reason);
        return;
      }
      client.onstate("closed");
      setTimeout(open, pause);
      pause = Math.min(2 * pause, 4000);
    };
  };
  setTimeout(open);
  return client;
}

/** Use the messages of a notebook's widget. */
function overWidget(model) {
  const client = new Client();
  client.send = (header, buffers) => model.send(header, undefined, buffers.map(
    (buffer) => new Uint8Array(buffer.buffer ?? buffer, buffer.byteOffset ?? 0, buffer.byteLength)));
  const listen = (header, buffers) => client.receive(
    header, (buffers ?? []).map((b) => new Uint8Array(b.buffer ?? b, b.byteOffset ?? 0, b.byteLength)));
  model.on("msg:custom", listen);
  client.close = () => model.off("msg:custom", listen);
  setTimeout(() => client.onstate("open"));
  return client;
}

/** Stream of requests of which only the latest matters: one is in flight, the rest are dropped. */
class Stream {
  constructor(request, onerror) {
    this.request = request;
    this.onerror = onerror;
    this.busy = false;
    this.again = false;
  }

  async next() {
    if (this.busy) {
      this.again = true;
      return;
    }
    this.busy = true;
    try {
      await this.request();
    } catch (error) {
      this.onerror(error);
    }
    this.busy = false;
    if (this.again) {
      this.again = false;
      this.next();
    }
  }
}
