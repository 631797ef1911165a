import { defineConfig } from 'vite';

// `npm run dev` serves the page with hot reload and hands everything else to a running service.
const service = process.env.IRONCAST_SIGNALING ?? 'http://127.0.0.1:8080';

export default defineConfig({
  build: {
    target: 'es2022',
    // Light and dark are chosen by the browser.
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    chunkSizeWarningLimit: 700,
    rollupOptions: { input: ['index.html', 'watch.html'] },
  },
  server: {
    proxy: {
      '/socket.io': { target: service, ws: true },
      '/api': service,
      '/hls': service,
      '/recordings': service,
      '/health': service,
      '/ready': service,
    },
  },
});
