// Echo on npm `ws`, without compression.
const { WebSocketServer } = require('../../tests/node_modules/ws');

const server = new WebSocketServer({ host: '127.0.0.1', port: Number(process.argv[2]), perMessageDeflate: false,
                                     maxPayload: 1 << 30 });
server.on('connection', (socket) => {
  socket.on('message', (data, binary) => socket.send(data, { binary }));
  socket.on('error', () => {});
});
