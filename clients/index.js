// @ts-check
export * from './memory-interface.js';
export * from './lora-interface.js';
export { ReconnectingSocket } from './reconnecting-socket.js';
