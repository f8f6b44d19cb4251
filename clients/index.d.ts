export * from './memory-interface.js';
export * from './lora-interface.js';
export { ReconnectingSocket } from './reconnecting-socket.js';
export type { State, SocketOptions, Metrics, Stats, Events } from './reconnecting-socket.js';
